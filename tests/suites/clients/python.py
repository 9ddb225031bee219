"""One connection by a Python library: `python.py LIBRARY URL TEXTS`. Leaves with 1000 `bye` after so many texts, or stays.

Prints one JSON value a line: {"open"}, {"text": SHA-256} for each, then {"closed": [code, reason]}, or {"refused": status}."""

import asyncio
import hashlib
import json
import ssl
import sys

LIBRARY, URL, TEXTS = sys.argv[1], sys.argv[2], int(sys.argv[3])
CONTEXT = ssl.create_default_context() if URL.startswith("wss:") else None
seen = 0


def tell(**value):
    print(json.dumps(value), flush=True)


def text(value):
    """Tells a text, and whether it was the last."""
    global seen
    if isinstance(value, str):
        value = value.encode()
    tell(text=hashlib.sha256(value).hexdigest())
    seen += 1
    return seen == TEXTS


async def websockets_asyncio():
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed, InvalidStatus
    try:
        socket = await connect(URL, max_size=None, ssl=CONTEXT)
    except InvalidStatus as refusal:
        return tell(refused=refusal.response.status_code)
    tell(open=True)
    try:
        while not text(await socket.recv()):
            pass
        await socket.close(1000, "bye")
    except ConnectionClosed:
        pass
    tell(closed=[socket.close_code, socket.close_reason])


def websocket_client():
    import websocket
    try:
        socket = websocket.create_connection(URL)
    except websocket.WebSocketBadStatusException as refusal:
        return tell(refused=refusal.status_code)
    tell(open=True)
    while True:
        kind, data = socket.recv_data()
        if kind == websocket.ABNF.OPCODE_CLOSE:
            return tell(closed=[int.from_bytes(data[:2], "big"), data[2:].decode()])
        if text(data):
            socket.send_close(1000, b"bye")


def trio_websocket():
    import trio
    from trio_websocket import ConnectionClosed, ConnectionRejected, open_websocket_url

    async def run():
        try:
            async with open_websocket_url(URL, ssl_context=CONTEXT, max_message_size=1 << 24) as socket:
                tell(open=True)
                try:
                    while not text(await socket.get_message()):
                        pass
                    await socket.aclose(1000, "bye")
                except ConnectionClosed:
                    pass
                tell(closed=[int(socket.closed.code), socket.closed.reason])
        except ConnectionRejected as refusal:
            tell(refused=refusal.status_code)
        except BaseExceptionGroup as group:
            refused = group.subgroup(ConnectionRejected)
            if not refused:
                raise
            while isinstance(refused, BaseExceptionGroup):
                refused = refused.exceptions[0]
            tell(refused=refused.status_code)

    trio.run(run)


async def aiohttp():
    from aiohttp import ClientSession, WSMsgType, WSServerHandshakeError
    async with ClientSession() as session:
        try:
            socket = await session.ws_connect(URL, ssl=CONTEXT or True, max_msg_size=0)
        except WSServerHandshakeError as refusal:
            return tell(refused=refusal.status)
        tell(open=True)
        async for message in socket:
            if message.type == WSMsgType.TEXT and text(message.data):
                await socket.close(code=1000, message=b"bye")
        # The library keeps no reason.
        tell(closed=[socket.close_code, None])


async def httpx_ws():
    import httpx
    from httpx_ws import WebSocketDisconnect, WebSocketUpgradeError, aconnect_ws
    async with httpx.AsyncClient(verify=CONTEXT or True) as client:
        try:
            async with aconnect_ws(URL, client, max_message_size_bytes=1 << 24,
                                   keepalive_ping_interval_seconds=None) as socket:
                tell(open=True)
                try:
                    while not text(await socket.receive_text()):
                        pass
                    await socket.close(1000, "bye")
                    tell(closed=[1000, "bye"])
                except WebSocketDisconnect as end:
                    tell(closed=[end.code, end.reason])
        except WebSocketUpgradeError as refusal:
            tell(refused=refusal.response.status_code)


async def tornado():
    from tornado.httpclient import HTTPClientError, HTTPRequest
    from tornado.websocket import websocket_connect
    try:
        socket = await websocket_connect(HTTPRequest(URL, ssl_options=CONTEXT), max_message_size=1 << 24)
    except HTTPClientError as refusal:
        return tell(refused=refusal.code)
    tell(open=True)
    while (message := await socket.read_message()) is not None:
        if text(message):
            socket.close(1000, "bye")
    tell(closed=[socket.close_code, socket.close_reason])


def autobahn_twisted():
    from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol, connectWS
    from autobahn.websocket.types import ConnectionDeny
    from twisted.internet import reactor, ssl as twisted_ssl
    import os
    result = {}

    class Protocol(WebSocketClientProtocol):
        def onOpen(self):
            tell(open=True)

        def onMessage(self, payload, isBinary):
            if text(payload):
                self.sendClose(1000, "bye")

        def failHandshake(self, reason, *rest):
            # It tells the status in words only.
            digits = "".join(c for c in reason if c.isdigit())[:3]
            result["refused"] = int(digits) if digits else reason
            super().failHandshake(reason, *rest)

        def onClose(self, wasClean, code, reason):
            tell(**result) if result else tell(closed=[self.remoteCloseCode, self.remoteCloseReason])
            if reactor.running:
                reactor.stop()

    factory = WebSocketClientFactory(URL)
    factory.protocol = Protocol
    options = None
    if CONTEXT:
        authority = twisted_ssl.Certificate.loadPEM(open(os.environ["SSL_CERT_FILE"]).read())
        options = twisted_ssl.optionsForClientTLS("localhost", trustRoot=authority)
    connectWS(factory, options)
    reactor.run()


async def picows():
    from picows import WSCloseCode, WSListener, WSMsgType, ws_connect
    ended = asyncio.Event()

    class Listener(WSListener):
        def on_ws_connected(self, transport):
            tell(open=True)

        def on_ws_frame(self, transport, frame):
            if frame.msg_type == WSMsgType.TEXT:
                if text(frame.get_payload_as_bytes()):
                    transport.send_close(WSCloseCode.OK, b"bye")
            elif frame.msg_type == WSMsgType.CLOSE:
                tell(closed=[int(frame.get_close_code()), frame.get_close_reason()])
                transport.send_close(frame.get_close_code(), b"")
                transport.disconnect()
            elif frame.msg_type == WSMsgType.PING:
                transport.send_pong(frame.get_payload_as_bytes())

        def on_ws_disconnected(self, transport):
            ended.set()

    try:
        await ws_connect(Listener, URL, ssl_context=CONTEXT, enable_auto_pong=False)
    except Exception as refusal:  # its own class, which tells the status as an attribute of the response
        status = getattr(getattr(refusal, "response", None), "status", None)
        return tell(refused=int(status) if status is not None else repr(refusal))
    await ended.wait()


run = globals()[LIBRARY.replace("-", "_")]
asyncio.run(run()) if asyncio.iscoroutinefunction(run) else run()
