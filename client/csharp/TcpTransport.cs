// A WebSocket (RFC 6455) over a TCP connection: the runtimes' own do not tell all close codes.

using System;
using System.Collections.Generic;
using System.IO;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace Imcore
{
    /// <summary>Connects by TCP, and by TLS for `wss://`, whose certificate is checked as the system does. No proxies, no extensions.</summary>
    public sealed class TcpTransport : IImTransport
    {
        private const int LongestHead = 32 << 10;

        /// <inheritdoc/>
        public async Task<IImSocket> ConnectAsync(string address, string protocol, CancellationToken givenUp)
        {
            var tcp = new TcpClient { NoDelay = true };
            // What is under way cannot be given up but by its end.
            using (givenUp.Register(tcp.Dispose))
            {
                try
                {
                    var uri = new Uri(address);
                    await tcp.ConnectAsync(uri.Host, uri.Port).ConfigureAwait(false);
                    Stream stream = tcp.GetStream();
                    if (uri.Scheme == "wss")
                    {
                        var secure = new SslStream(stream);
                        await secure.AuthenticateAsClientAsync(uri.Host).ConfigureAwait(false);
                        stream = secure;
                    }
                    string agreed = await Open(stream, address, uri, protocol).ConfigureAwait(false);
                    givenUp.ThrowIfCancellationRequested();
                    return new TcpSocket(tcp, stream, agreed);
                }
                catch
                {
                    tcp.Dispose();
                    throw;
                }
            }
        }

        /// <summary>The handshake; the sub-protocol that was agreed on.</summary>
        private static async Task<string> Open(Stream stream, string address, Uri uri, string protocol)
        {
            int path = address.IndexOf('/', address.IndexOf("://", StringComparison.Ordinal) + 3);
            string key = Convert.ToBase64String(Guid.NewGuid().ToByteArray());
            string head = "GET " + (path < 0 ? "/" : address.Substring(path)) + " HTTP/1.1\r\nHost: " + uri.Authority
                + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\n"
                + (protocol == null ? "" : "Sec-WebSocket-Protocol: " + protocol + "\r\n") + "\r\n";
            byte[] bytes = Encoding.ASCII.GetBytes(head);
            await stream.WriteAsync(bytes, 0, bytes.Length).ConfigureAwait(false);
            string[] lines = (await Head(stream).ConfigureAwait(false)).Split(new[] { "\r\n" }, StringSplitOptions.None);
            string[] status = lines[0].Split(' ');
            if (status.Length < 2 || status[1] != "101") throw new IOException("refused: " + lines[0]);
            var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
            foreach (string line in lines)
            {
                int colon = line.IndexOf(':');
                if (colon > 0) headers[line.Substring(0, colon)] = line.Substring(colon + 1).Trim();
            }
            headers.TryGetValue("Sec-WebSocket-Accept", out string accepted);
            if (accepted != Accepted(key)) throw new IOException("the answer is no WebSocket's");
            headers.TryGetValue("Sec-WebSocket-Protocol", out string agreed);
            return agreed;
        }

        private static string Accepted(string key)
        {
            using (SHA1 hash = SHA1.Create())
            {
                return Convert.ToBase64String(hash.ComputeHash(Encoding.ASCII.GetBytes(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
            }
        }

        /// <summary>Byte by byte: what stands behind it are frames.</summary>
        private static async Task<string> Head(Stream stream)
        {
            var head = new StringBuilder();
            var one = new byte[1];
            while (head.Length < 4 || head.ToString(head.Length - 4, 4) != "\r\n\r\n")
            {
                if (head.Length == LongestHead) throw new IOException("the head of the answer does not end");
                if (await stream.ReadAsync(one, 0, 1).ConfigureAwait(false) == 0) throw new EndOfStreamException();
                head.Append((char)one[0]);
            }
            return head.ToString();
        }
    }

    internal sealed class TcpSocket : IImSocket
    {
        private const int Continuation = 0, TextFrame = 1, CloseFrame = 8, Ping = 9, Pong = 10;
        private static readonly Encoding Utf8 = new UTF8Encoding(false, true);
        private static readonly RandomNumberGenerator Masks = RandomNumberGenerator.Create();

        private readonly TcpClient tcp;
        private readonly Stream stream;
        private readonly SemaphoreSlim writing = new SemaphoreSlim(1);
        private readonly byte[] head = new byte[10];

        internal TcpSocket(TcpClient tcp, Stream stream, string protocol)
        {
            this.tcp = tcp;
            this.stream = stream;
            Protocol = protocol;
        }

        public string Protocol { get; }

        public async Task<ImFrame> ReceiveAsync()
        {
            bool isText = false;
            MemoryStream parts = null;
            for (;;)
            {
                await Read(head, 2).ConfigureAwait(false);
                bool isLast = (head[0] & 128) != 0;
                int kind = head[0] & 15;
                if ((head[0] & 0x70) != 0 || (head[1] & 128) != 0) throw new IOException("a frame that no server may send");
                byte[] content = await Content(head[1]).ConfigureAwait(false);
                if (kind == Ping) await Write(Pong, content).ConfigureAwait(false);
                else if (kind == CloseFrame)
                {
                    return content.Length < 2
                        ? ImFrame.End(1005, "")
                        : ImFrame.End(content[0] << 8 | content[1], Utf8.GetString(content, 2, content.Length - 2));
                }
                else if (kind != Pong)
                {
                    if (kind != Continuation) isText = kind == TextFrame;
                    if (isLast && parts == null) return Message(isText, content, content.Length);
                    parts = parts ?? new MemoryStream();
                    parts.Write(content, 0, content.Length);
                    if (isLast) return Message(isText, parts.GetBuffer(), (int)parts.Length);
                }
            }
        }

        public Task SendAsync(string text)
        {
            return Write(TextFrame, Utf8.GetBytes(text));
        }

        public Task CloseAsync(int code, string reason)
        {
            byte[] words = Utf8.GetBytes(reason);
            var content = new byte[2 + words.Length];
            content[0] = (byte)(code >> 8);
            content[1] = (byte)code;
            words.CopyTo(content, 2);
            return Write(CloseFrame, content);
        }

        public void Dispose()
        {
            tcp.Dispose();
        }

        private static ImFrame Message(bool isText, byte[] bytes, int length)
        {
            return ImFrame.Message(isText ? Utf8.GetString(bytes, 0, length) : null);
        }

        private async Task<byte[]> Content(int length)
        {
            int extra = length == 126 ? 2 : length == 127 ? 8 : 0;
            long size = extra == 0 ? length : 0;
            await Read(head, extra).ConfigureAwait(false);
            for (int at = 0; at < extra; at += 1) size = size << 8 | head[at];
            if (size < 0 || size > int.MaxValue) throw new IOException("a frame that is too long");
            var content = new byte[size];
            await Read(content, content.Length).ConfigureAwait(false);
            return content;
        }

        private async Task Read(byte[] bytes, int count)
        {
            for (int at = 0; at < count;)
            {
                int read = await stream.ReadAsync(bytes, at, count - at).ConfigureAwait(false);
                if (read == 0) throw new EndOfStreamException();
                at += read;
            }
        }

        private async Task Write(int kind, byte[] content)
        {
            int length = content.Length;
            int extra = length < 126 ? 0 : length < 65536 ? 2 : 8;
            var frame = new byte[2 + extra + 4 + length];
            frame[0] = (byte)(128 | kind);
            frame[1] = (byte)(128 | (extra == 0 ? length : extra == 2 ? 126 : 127));
            for (int at = 0; at < extra; at += 1) frame[2 + at] = (byte)((long)length >> 8 * (extra - 1 - at));
            var mask = new byte[4];
            Masks.GetBytes(mask);
            mask.CopyTo(frame, 2 + extra);
            for (int at = 0; at < length; at += 1) frame[2 + extra + 4 + at] = (byte)(content[at] ^ mask[at % 4]);
            await writing.WaitAsync().ConfigureAwait(false);
            try
            {
                await stream.WriteAsync(frame, 0, frame.Length).ConfigureAwait(false);
            }
            finally
            {
                writing.Release();
            }
        }
    }
}
