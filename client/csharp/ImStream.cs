// What a client has of the stream of its messages: which connection it goes on from, and where; what waits for the application.
// docs/protocol.md, "imcore.1".
//
// One for all connections of a client. Knows no socket, no pause and no address. Its promise: each message is handed on once and in
// order, one call at a time; its position is stored after the application has handled it, and the node told after that.

using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace Imcore
{
    internal sealed class ImStream
    {
        /// <summary>Acknowledgements are cumulative, so one a second is enough.</summary>
        private const double AckEvery = 1000;
        private const int MostWaiting = 1000;
        private const int MostCharacters = 1 << 20;
        private static readonly TimeSpan LoadWithin = TimeSpan.FromSeconds(3);

        private readonly ImOptions options;
        private readonly ImClock clock;
        private readonly Random random;
        /// <summary>Says a word to the node, if there is a connection that it greeted.</summary>
        private readonly Action<string> say;
        private readonly Queue<Entry> waiting = new Queue<Entry>();
        /// <summary>What came behind the position that the next connection goes on from: it will come again there.</summary>
        private readonly HashSet<string> overlap = new HashSet<string>();

        private string c = "";
        /// <summary>Up to where all is handled, or has to be loaded: what the next connection goes on from.</summary>
        private string since = "";
        /// <summary>Of the frame that came last.</summary>
        private string received = "";
        /// <summary>Up to where all is handled and stored, and the last position that the node was told of.</summary>
        private string stored = "", acknowledged = "";
        private double acknowledgedAt = double.NegativeInfinity;
        private bool isAckDue, isLoaded;
        private string toSave;
        private Action whenSaved;
        private bool isSaving;
        private Entry current;
        private Load load;
        private int characters;
        private bool isRunning;
        /// <summary>Of all that waits and is under way; cancelled when nobody wants it any more.</summary>
        private CancellationTokenSource scope = new CancellationTokenSource();

        internal ImStream(ImOptions options, Random random, Action<string> say)
        {
            this.options = options;
            this.random = random;
            this.say = say;
            clock = options.Clock;
        }

        private sealed class Entry
        {
            internal string P;
            /// <summary>Of a message: JSON, or a text that is none.</summary>
            internal string Text;
            internal bool IsJson;
            internal ImReceipt Receipt;
            internal int Size;
            internal bool IsPosition => Text == null && Receipt == null;
        }

        private sealed class Load
        {
            internal string Why, P;
            internal double Spread;
        }

        // --- What is stored ---------------------------------------------------------------------------

        /// <summary>Takes over what a process before this one has stored. Called before each attempt.</summary>
        internal async Task TakeOver()
        {
            if (isLoaded || options.Position == null || c != "") return;
            isLoaded = true;
            try
            {
                Task<string> loading = options.Position.LoadAsync();
                if (await Task.WhenAny(loading, Task.Delay(LoadWithin)) != loading) throw new TimeoutException();
                string[] parts = ((await loading) ?? "").Split(' ');
                if (c != "" || parts.Length != 2) return;
                c = parts[0];
                since = received = stored = acknowledged = parts[1];
            }
            catch (Exception error)
            {
                options.OnError?.Invoke(new ImException("the position could not be loaded; beginning anew", error));
            }
        }

        private void Save(string text, Action saved)
        {
            toSave = text;
            whenSaved = saved;
            if (!isSaving) SaveWhatIsWanted();
        }

        /// <summary>Only the newest counts. One that could not be saved costs a message that comes twice, and none that is missing.</summary>
        private async void SaveWhatIsWanted()
        {
            isSaving = true;
            while (toSave != null)
            {
                string text = toSave;
                Action saved = whenSaved;
                toSave = null;
                try
                {
                    if (options.Position != null) await options.Position.SaveAsync(text);
                }
                catch (Exception error)
                {
                    options.OnError?.Invoke(new ImException("the position could not be saved", error));
                }
                saved();
            }
            isSaving = false;
        }

        /// <summary>What LoadAsync is to give back for a client that has handled everything up to a position.</summary>
        private string Kept(string p)
        {
            return c != "" && p != "" ? c + " " + p : "";
        }

        // --- Begin and end ------------------------------------------------------------------------------

        /// <summary>Nothing is handed on any more, and nothing that is stored is of use.</summary>
        internal void Stop()
        {
            Begin();
            isLoaded = false;
        }

        /// <summary>It begins anew, as on a first connection.</summary>
        internal void Begin()
        {
            Void();
            load = null;
            c = since = received = stored = acknowledged = "";
            overlap.Clear();
            Save("", () => { });
        }

        private void Void()
        {
            scope.Cancel();
            scope = new CancellationTokenSource();
            waiting.Clear();
            characters = 0;
        }

        /// <summary>The address for a connection that goes on from here.</summary>
        internal string Addressed(string address)
        {
            overlap.Clear();
            IEnumerable<Entry> undone = waiting;
            if (current != null) undone = undone.Concat(new[] { current });
            foreach (Entry entry in undone.Where(one => !one.IsPosition)) overlap.Add(entry.P);
            acknowledged = since;
            if (c == "" || since == "") return address;
            string joint = address.Contains("?") ? "&" : "?";
            return address + joint + "since=" + Uri.EscapeDataString(since) + "&c=" + Uri.EscapeDataString(c);
        }

        // --- Connections --------------------------------------------------------------------------------

        /// <summary>One that cannot be resumed is open: whatever came before it may be missing.</summary>
        internal void Opened(bool isReconnect)
        {
            if (c != "") Begin();
            if (options.OnResync != null) Resync(isReconnect ? "epoch" : null, "", 0);
        }

        /// <summary>A message of such a connection.</summary>
        internal void Told(string text)
        {
            Add(new Entry { P = "", Text = text, IsJson = Json.IsJson(text), Size = text.Length });
        }

        internal void Greeted(Dictionary<string, string> hello)
        {
            string named = Json.TextOf(hello, "c") ?? "";
            bool isRenamed = c != named;
            c = named;
            if (!Json.IsTrue(hello, "resumed"))
            {
                Resync(Json.TextOf(hello, "why"), Json.TextOf(hello, "p") ?? "", Json.NumberOf(hello, "spread"));
                return;
            }
            // A load that is under way goes on: nothing was lost since it began, and nothing is stored before it has ended.
            if (isRenamed && stored != "") Handled(since);
            Acknowledge();
        }

        /// <summary>Any other frame; from the connection before the present one too, as long as that lives.</summary>
        internal void Took(Dictionary<string, string> frame, int size, bool isFormer)
        {
            var entry = new Entry { P = Json.TextOf(frame, "p"), Size = size };
            entry.IsJson = frame.TryGetValue("m", out string json);
            entry.Text = entry.IsJson ? json : Json.TextOf(frame, "t");
            if (entry.Text == null && frame.TryGetValue("r", out string receipt))
            {
                var told = Json.Members(receipt);
                entry.Receipt = new ImReceipt(Json.TextOf(told, "to"), Json.TextOf(told, "status"), Json.TextOf(told, "id"), Json.TextOf(told, "content"));
            }
            if (!entry.IsPosition)
            {
                if (isFormer) overlap.Add(entry.P);
                // It came before this connection was asked to go on from before it.
                else if (overlap.Remove(entry.P)) return;
            }
            if (!isFormer && frame.TryGetValue("o", out string roster)) options.OnRoster?.Invoke(roster);
            received = entry.P;
            Add(entry);
        }

        // --- What waits ---------------------------------------------------------------------------------

        private void Add(Entry entry)
        {
            waiting.Enqueue(entry);
            characters += entry.Size;
            bool isTooMuch = waiting.Count > MostWaiting || characters > MostCharacters;
            // One that is too large by itself is not refused: it is here already.
            if (isTooMuch && waiting.Count > 1) Resync("too_much", received, 0);
            else Run();
        }

        /// <summary>Has the state loaded, in place of all that waits. The position is taken over at once: whoever offered the old one again
        /// would be told the same again. It is stored when the state is loaded.</summary>
        private void Resync(string why, string p, double spread)
        {
            overlap.Clear();
            stored = "";
            if (p != "") since = received = p;
            Void();
            load = new Load { Why = why, P = p, Spread = spread };
            Run();
        }

        private async void Run()
        {
            if (isRunning) return;
            isRunning = true;
            while (load != null || waiting.Count > 0)
            {
                if (load != null) await CarryOut(load);
                else await HandOn(waiting.Dequeue());
            }
            isRunning = false;
        }

        private async Task HandOn(Entry entry)
        {
            CancellationToken over = scope.Token;
            characters -= entry.Size;
            current = entry;
            try
            {
                if (entry.Receipt != null) options.OnReceipt?.Invoke(entry.Receipt);
                if (entry.Text != null && options.OnMessage != null)
                {
                    await options.OnMessage(new ImMessage(entry.Text, entry.IsJson, Kept(entry.P)));
                }
            }
            catch (Exception error)
            {
                options.OnError?.Invoke(new ImException("a message was passed over: its handler failed", error));
            }
            current = null;
            if (!over.IsCancellationRequested) Done(entry.P);
        }

        private async Task CarryOut(Load due)
        {
            CancellationToken over = scope.Token;
            double wait = options.OnResync == null ? 0 : random.NextDouble() * due.Spread;
            for (int failures = 0; options.OnResync != null; failures += 1)
            {
                if (wait > 0) await clock.Pause(wait, over);
                if (over.IsCancellationRequested) return;
                try
                {
                    await options.OnResync(new ImResync(due.Why, Kept(due.P), over));
                    break;
                }
                catch (Exception error)
                {
                    if (over.IsCancellationRequested) return;
                    options.OnError?.Invoke(new ImException("the state could not be loaded; trying again", error));
                    wait = Math.Max(50, random.NextDouble() * Math.Min(options.LongestPause.TotalMilliseconds, options.FirstPause.TotalMilliseconds * Math.Pow(2, failures)));
                }
            }
            if (over.IsCancellationRequested) return;
            load = null;
            Done(due.P);
        }

        // --- Positions ----------------------------------------------------------------------------------

        private void Done(string p)
        {
            if (c == "" || p == "") return;
            since = p;
            Handled(p);
        }

        private void Handled(string p)
        {
            string then = c;
            Save(Kept(p), () =>
            {
                if (then != c) return;
                stored = p;
                Acknowledge();
            });
        }

        private async void Acknowledge()
        {
            if (isAckDue) return;
            isAckDue = true;
            double wait = acknowledgedAt + AckEvery - clock.Now;
            if (wait > 0) await clock.Pause(wait);
            isAckDue = false;
            Flush();
        }

        /// <summary>The application may be gone in a moment: what was handled is said at once.</summary>
        internal void Flush()
        {
            if (stored == "" || stored == acknowledged) return;
            acknowledged = stored;
            acknowledgedAt = clock.Now;
            say("{\"a\":" + Json.Quote(stored) + "}");
        }
    }
}
