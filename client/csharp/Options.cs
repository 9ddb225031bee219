// What an application says to a client, and is told by it.

using System;
using System.IO;
using System.Threading;
using System.Threading.Tasks;

namespace Imcore
{
    /// <summary>What a client needs of its application. All calls of it come one after the other, where the client runs.</summary>
    public sealed class ImOptions
    {
        /// <summary>Asks your web API for an address with a fresh token, for each attempt; null ends it all. `ImAddress.Post` is one. Whatever it
        /// throws leads to another attempt later, an ImRefusedException not before it says.</summary>
        public Func<CancellationToken, Task<string>> GetAddress { get; set; }

        /// <summary>Handles one message. It counts as handled, and the node is told so, when the task is done; the next one waits for that. A
        /// task that fails is told to OnError, and its message passed over.</summary>
        public Func<ImMessage, Task> OnMessage { get; set; }

        /// <summary>Loads the state from your web API: at first, and whenever something may be missing. Messages wait. Called again if it fails.</summary>
        public Func<ImResync, Task> OnResync { get; set; }

        /// <summary>Joins the channels of this client through your web API: the node does not know them any more. Called again if it fails.</summary>
        public Func<CancellationToken, Task> OnRejoin { get; set; }

        /// <summary>What became of a message that asked for a receipt.</summary>
        public Action<ImReceipt> OnReceipt { get; set; }

        /// <summary>Who is in a channel, or what is new in it, as JSON: docs/protocol.md, "Rosters".</summary>
        public Action<string> OnRoster { get; set; }

        /// <summary>The state is another one, and why.</summary>
        public Action<ImState, string> OnState { get; set; }

        /// <summary>Something went wrong, and the client deals with it: for logs.</summary>
        public Action<Exception> OnError { get; set; }

        /// <summary>Where the position is kept beyond this process. Default: nowhere.</summary>
        public IImPosition Position { get; set; }

        /// <summary>Whether nodes are asked for connections that can be resumed. Default true.</summary>
        public bool Resume { get; set; } = true;

        /// <summary>What connects. Default: a WebSocket over TCP or TLS, without a proxy.</summary>
        public IImTransport Transport { get; set; } = new TcpTransport();

        /// <summary>For the address, and again for the handshake and the greeting; grows up to three times where it was too short.</summary>
        public TimeSpan ConnectWithin { get; set; } = TimeSpan.FromSeconds(10);

        /// <summary>The first pause is drawn from 0 to this; doubled with each failure.</summary>
        public TimeSpan FirstPause { get; set; } = TimeSpan.FromSeconds(2.5);

        /// <summary>The longest pause.</summary>
        public TimeSpan LongestPause { get; set; } = TimeSpan.FromSeconds(30);

        /// <summary>For tests.</summary>
        public ImClock Clock { get; set; } = new ImClock();
    }

    /// <summary>Where a connection stands.</summary>
    public enum ImState
    {
        /// <summary>Not started, or ended by Close.</summary>
        Closed,
        /// <summary>Asks for an address, or opens the socket.</summary>
        Connecting,
        /// <summary>Messages arrive.</summary>
        Open,
        /// <summary>Between two attempts, or put away.</summary>
        Waiting,
        /// <summary>Forced offline (4001). Only Connect leads on.</summary>
        Kicked,
        /// <summary>It makes no sense to go on. Only Connect leads on.</summary>
        Failed,
    }

    /// <summary>A message.</summary>
    public sealed class ImMessage
    {
        internal ImMessage(string text, bool isJson, string position)
        {
            Text = text;
            IsJson = isJson;
            Position = position;
        }

        /// <summary>JSON as it was sent, for the JSON library that you use; or a text that is none.</summary>
        public string Text { get; }

        /// <summary>Whether it is JSON.</summary>
        public bool IsJson { get; }

        /// <summary>What IImPosition.LoadAsync is to give back if everything up to this message is stored together with it.</summary>
        public string Position { get; }
    }

    /// <summary>Why the state is to be loaded.</summary>
    public sealed class ImResync
    {
        internal ImResync(string why, string position, CancellationToken cancelled)
        {
            Why = why;
            Position = position;
            Cancelled = cancelled;
        }

        /// <summary>Null on a first connection; `expired`, `epoch`, `ahead`, `too_much`, or what nodes of later say.</summary>
        public string Why { get; }

        /// <summary>The position from which on messages are handed on once this is done.</summary>
        public string Position { get; }

        /// <summary>Set when this load is of no use any more.</summary>
        public CancellationToken Cancelled { get; }
    }

    /// <summary>What became of a message that asked for a receipt.</summary>
    public sealed class ImReceipt
    {
        internal ImReceipt(string to, string status, string id, string content)
        {
            To = to;
            Status = status;
            Id = id;
            Content = content;
        }

        /// <summary>Whom the message was for.</summary>
        public string To { get; }

        /// <summary>`sent`, `acknowledged`, `offline`, `expired`, or what nodes of later say.</summary>
        public string Status { get; }

        /// <summary>What your service named the message by; null if it did not.</summary>
        public string Id { get; }

        /// <summary>The message; null if it was too large to be sent back.</summary>
        public string Content { get; }
    }

    /// <summary>Where a client keeps its position, an opaque text, from one process to the next.</summary>
    public interface IImPosition
    {
        /// <summary>What was saved last; null or empty: nothing.</summary>
        Task<string> LoadAsync();

        /// <summary>Saves it; empty: there is nothing to go on from any more. The node is told of what was handled behind this.</summary>
        Task SaveAsync(string position);
    }

    /// <summary>A position in a file: one for each user and device. In Unity: below Application.persistentDataPath.</summary>
    public sealed class FilePosition : IImPosition
    {
        private readonly string path;

        /// <param name="path">It need not exist; its folder must.</param>
        public FilePosition(string path)
        {
            this.path = path;
        }

        /// <inheritdoc/>
        public Task<string> LoadAsync()
        {
            return Task.FromResult(File.Exists(path) ? File.ReadAllText(path) : "");
        }

        /// <inheritdoc/>
        public Task SaveAsync(string position)
        {
            // One that was written half is no position: another file takes its place whole.
            File.WriteAllText(path + ".new", position);
            if (File.Exists(path)) File.Replace(path + ".new", path, null);
            else File.Move(path + ".new", path);
            return Task.CompletedTask;
        }
    }

    /// <summary>Something that the client deals with by itself, in words.</summary>
    public class ImException : Exception
    {
        /// <summary/>
        public ImException(string message, Exception cause = null) : base(message, cause)
        {
        }
    }

    /// <summary>The web API gives no address now.</summary>
    public sealed class ImRefusedException : ImException
    {
        /// <param name="message"/>
        /// <param name="after">For how long it wants to be left alone; null: it does not say.</param>
        public ImRefusedException(string message, TimeSpan? after) : base(message)
        {
            After = after;
        }

        /// <summary>For how long it wants to be left alone.</summary>
        public TimeSpan? After { get; }
    }
}
