// What a client connects with: one text at a time in each direction, and exactly one end.

using System;
using System.IO;
using System.Net.WebSockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace Imcore
{
    /// <summary>Connects. A client asks for one connection at a time, and a second beside it while the first is in doubt.</summary>
    public interface IImTransport
    {
        /// <summary>Opens a connection; throws whatever it likes if it comes to nothing.</summary>
        /// <param name="address">`ws://..` or `wss://..`, to be used as it stands.</param>
        /// <param name="protocol">The sub-protocol to ask for; null: none.</param>
        /// <param name="givenUp">The attempt is not wanted any more.</param>
        Task<IImSocket> ConnectAsync(string address, string protocol, CancellationToken givenUp);
    }

    /// <summary>An open connection. Dispose ends it at once.</summary>
    public interface IImSocket : IDisposable
    {
        /// <summary>The sub-protocol that was agreed on; null or empty: none.</summary>
        string Protocol { get; }

        /// <summary>The next message, or the end, which comes last; throws if the connection broke. One call at a time.</summary>
        Task<ImFrame> ReceiveAsync();

        /// <summary>Says a text. One call at a time.</summary>
        Task SendAsync(string text);

        /// <summary>Says a close frame, also as the answer to one. Nothing is sent behind it.</summary>
        Task CloseAsync(int code, string reason);
    }

    /// <summary>What has come.</summary>
    public struct ImFrame
    {
        /// <summary>A text; null: something binary, or the end.</summary>
        public string Text { get; private set; }

        /// <summary>Of the end; 0: it is none.</summary>
        public int Code { get; private set; }

        /// <summary>Of the end.</summary>
        public string Reason { get; private set; }

        /// <summary>A text, or null for a binary message.</summary>
        public static ImFrame Message(string text)
        {
            return new ImFrame { Text = text };
        }

        /// <summary>The other side has closed.</summary>
        public static ImFrame End(int code, string reason)
        {
            return new ImFrame { Code = code, Reason = reason };
        }
    }

    /// <summary>.NET's own WebSocket, for where a proxy is in between. Mono's, at least, takes the close codes 1012 and 1013 for a break: the
    /// pause that a node asks for with them is not kept.</summary>
    public sealed class WebSocketTransport : IImTransport
    {
        /// <inheritdoc/>
        public async Task<IImSocket> ConnectAsync(string address, string protocol, CancellationToken givenUp)
        {
            var socket = new ClientWebSocket();
            try
            {
                if (protocol != null) socket.Options.AddSubProtocol(protocol);
                await socket.ConnectAsync(new Uri(address), givenUp).ConfigureAwait(false);
                return new Socket(socket);
            }
            catch
            {
                socket.Dispose();
                throw;
            }
        }

        private sealed class Socket : IImSocket
        {
            private readonly ClientWebSocket socket;
            private readonly ArraySegment<byte> buffer = new ArraySegment<byte>(new byte[8 << 10]);

            internal Socket(ClientWebSocket socket)
            {
                this.socket = socket;
            }

            public string Protocol => socket.SubProtocol;

            public async Task<ImFrame> ReceiveAsync()
            {
                using (var whole = new MemoryStream())
                {
                    for (;;)
                    {
                        WebSocketReceiveResult part = await socket.ReceiveAsync(buffer, CancellationToken.None).ConfigureAwait(false);
                        if (part.MessageType == WebSocketMessageType.Close)
                        {
                            return ImFrame.End((int)(part.CloseStatus ?? (WebSocketCloseStatus)1005), part.CloseStatusDescription ?? "");
                        }
                        whole.Write(buffer.Array, 0, part.Count);
                        if (!part.EndOfMessage) continue;
                        bool isText = part.MessageType == WebSocketMessageType.Text;
                        return ImFrame.Message(isText ? Encoding.UTF8.GetString(whole.GetBuffer(), 0, (int)whole.Length) : null);
                    }
                }
            }

            public Task SendAsync(string text)
            {
                var bytes = new ArraySegment<byte>(Encoding.UTF8.GetBytes(text));
                return socket.SendAsync(bytes, WebSocketMessageType.Text, true, CancellationToken.None);
            }

            public Task CloseAsync(int code, string reason)
            {
                return socket.CloseOutputAsync((WebSocketCloseStatus)code, reason, CancellationToken.None);
            }

            public void Dispose()
            {
                socket.Dispose();
            }
        }
    }
}
