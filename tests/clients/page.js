// Obeys commands in a browser's page with its own WebSocket. `tell` is bound by the test.

let socket;
function obey(command) {
  if (command.close) return socket.close(command.close, "bye");
  let opened = false;
  const report = (event) => tell(JSON.stringify(event));
  socket = new WebSocket(command.open);
  socket.onopen = () => {
    opened = true;
    report({ event: "open" });
  };
  socket.onmessage = ({ data }) => report({ event: "text", text: data });
  // A page is not told why it was refused.
  socket.onclose = ({ code, reason, wasClean }) =>
    report(opened ? { event: "closed", code, reason, clean: wasClean } : { event: "refused" });
}
