// The imcore client for .NET and Unity: one push connection that stays up, as states, attempts and ends. How it behaves is
// docs/protocol.md; README.md shows how it is used.
//
// It runs in turns (Turns.cs), so all of it is one thing after the other, whoever calls. Its parts: the stream of messages (ImStream), one
// connection (Line), and what connects (Transport).

using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace Imcore
{
    /// <summary>One user's push connection. Its calls may come from any thread, and are done when their task is; nobody has to wait for it.</summary>
    public sealed class ImClient
    {
        private const string Resumable = "imcore.1";
        private const int Goodbye = 1000, BackSoon = 3001, Kick = 4001, Superseded = 4002;
        /// <summary>A connection that has lasted so long was a good one: the pauses start small again.</summary>
        private const double StableAfter = 5000;

        /// <summary>Others take over from a node that died within 10 s: so long, and some more, pauses do not outgrow this.</summary>
        private const double TakenOver = 16000, LongestUntilThen = 4000;
        /// <summary>A node that resumes says something every 25 s, and answers a probe at once, but one a second.</summary>
        private const double Silence = 40000, ProbeWithin = 3000, ProbeEvery = 1000, WatchEvery = 5000;
        /// <summary>A watch this late means that the machine slept.</summary>
        private const double Slept = 90000;

        private static readonly Dictionary<int, string> Fatal = new Dictionary<int, string>
        {
            [1002] = "the server could not read a frame of this client",
            [1007] = "this client sent text that is not UTF-8",
            [1008] = "this client sent too much; the socket is for receiving",
            [1009] = "this client sent a message that is too big",
            [4003] = "this client has too many connections; the oldest gave way",
        };

        private readonly ImOptions options;
        private readonly ImClock clock;
        private readonly SynchronizationContext turns;
        private readonly Random random = new Random(Guid.NewGuid().GetHashCode());
        private readonly ImStream stream;

        /// <summary>The connection or attempt that there is, and the one before it, which is heard until another has taken over.</summary>
        private Line line, former;
        /// <summary>Of the present attempt, connection or pause: what belongs to another one is void.</summary>
        private CancellationTokenSource scope = new CancellationTokenSource();
        private CancellationTokenSource part = new CancellationTokenSource();
        private bool hasBeenOpen, isJoinDue, isJoining, isPaused;
        private int failures, tooSlow;
        private double lostAt = double.NegativeInfinity, notBefore = double.NegativeInfinity, keptUntil = double.NegativeInfinity, keep, probeAgainAt = double.NegativeInfinity;
        /// <summary>A message is seen when all of it is here, so a slow link that is busy with a large one looks dead: the next is given more time.</summary>
        private double patience = 1;

        /// <summary>A client that has not begun.</summary>
        public ImClient(ImOptions options)
        {
            if (options.GetAddress == null) throw new ArgumentException("GetAddress must be given", nameof(options));
            this.options = options;
            clock = options.Clock;
            turns = SynchronizationContext.Current ?? new Turns();
            stream = new ImStream(options, random, word => Say(word));
        }

        /// <summary>Where it stands; as OnState told last.</summary>
        public ImState State { get; private set; } = ImState.Closed;

        /// <summary>Connects, and stays connected until Close, a kick or a fatal close code. Again: nothing.</summary>
        public Task Connect()
        {
            return InTurn(() =>
            {
                if (!IsEnded) return;
                failures = tooSlow = 0;
                notBefore = double.NegativeInfinity;
                Attempt();
            });
        }

        /// <summary>Disconnects for good, and forgets the position: the user signs out.</summary>
        public Task Close()
        {
            return InTurn(() => End(ImState.Closed, "closed", Goodbye));
        }

        /// <summary>The app is put away (Unity: OnApplicationPause(true)): says what was handled, and that it comes back.</summary>
        public Task Away()
        {
            return InTurn(() =>
            {
                if (IsEnded) return;
                stream.Flush();
                Drop(ref former, BackSoon);
                LetGo();
                Enter(ImState.Waiting, "put away");
            });
        }

        /// <summary>The app is in front again.</summary>
        public Task Back()
        {
            return InTurn(Wake);
        }

        /// <summary>The network is back, or another one: the connection may be dead, and a pause may end.</summary>
        public Task Doubt()
        {
            return InTurn(() =>
            {
                // What was sent before the network came back is lost, and its answer never comes.
                if (State == ImState.Connecting) Attempt();
                else
                {
                    if (State == ImState.Waiting) failures = 0;
                    Wake();
                }
            });
        }

        private bool IsEnded => State == ImState.Closed || State == ImState.Kicked || State == ImState.Failed;

        /// <summary>What the public calls are: done, or failed, when it is their turn.</summary>
        private Task InTurn(Action call)
        {
            var done = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
            turns.Post(_ =>
            {
                try
                {
                    call();
                    done.SetResult(true);
                }
                catch (Exception error)
                {
                    done.SetException(error);
                }
            }, null);
            return done.Task;
        }

        // --- One attempt ------------------------------------------------------------------------------

        private async void Attempt()
        {
            LetGo();
            CancellationToken over = scope.Token;
            Enter(ImState.Connecting, "");
            await stream.TakeOver();
            if (over.IsCancellationRequested) return;
            Limit("no address");
            string address;
            try
            {
                address = await options.GetAddress(over);
                if (over.IsCancellationRequested) return;
                if (address != null && !IsAbsolute(address))
                {
                    throw new ImException("\"" + address + "\" is no address: it must begin with wss:// or ws://");
                }
            }
            catch (Exception error)
            {
                if (over.IsCancellationRequested) return;
                TimeSpan? after = (error as ImRefusedException)?.After;
                Fail(error, after.HasValue ? new Hint(after.Value.TotalMilliseconds, double.NaN) : null);
                return;
            }
            if (address == null) End(ImState.Failed, "the web API wants no connection any more", Goodbye);
            else
            {
                Limit("the address was there, but no connection");
                line = new Line();
                Live(line, options.Resume ? stream.Addressed(address) : address);
            }
        }

        private static bool IsAbsolute(string address)
        {
            return Uri.TryCreate(address, UriKind.Absolute, out Uri uri) && (uri.Scheme == "ws" || uri.Scheme == "wss") && uri.Host != "";
        }

        /// <summary>The next part of an attempt must end in its time. After each that was too slow the next ones have more.</summary>
        private async void Limit(string missing)
        {
            part.Cancel();
            part = new CancellationTokenSource();
            CancellationToken over = part.Token;
            double ms = options.ConnectWithin.TotalMilliseconds * Math.Min(3, Math.Pow(1.5, tooSlow));
            await clock.Pause(ms, over);
            if (over.IsCancellationRequested) return;
            tooSlow += 1;
            Fail(new TimeoutException(missing + " within " + ms + " ms"), null);
        }

        /// <summary>The life of a connection, until its end has been told, or was not wanted any more.</summary>
        private async void Live(Line own, string address)
        {
            try
            {
                own.Socket = await options.Transport.ConnectAsync(address, options.Resume ? Resumable : null, own.GivenUp.Token);
                own.Begin();
                if (!own.IsGone) Opened(own);
                for (;;)
                {
                    ImFrame frame = await own.Socket.ReceiveAsync();
                    if (frame.Code != 0)
                    {
                        bool isOurs = own.IsGone;
                        own.Leave(frame.Code, "");
                        if (!isOurs) Ended(own, frame.Code, frame.Reason);
                        return;
                    }
                    if (!own.IsGone) Received(own, frame.Text);
                }
            }
            catch (Exception error)
            {
                bool isOurs = own.IsGone;
                own.Drop();
                if (!isOurs) Ended(own, 1006, error.Message);
            }
        }

        private void Opened(Line own)
        {
            bool isReconnect = hasBeenOpen;
            hasBeenOpen = true;
            own.IsResumable = own.Socket.Protocol == Resumable;
            own.HeardAt = clock.Now;
            tooSlow = Math.Max(0, tooSlow - 1);
            if (own.IsResumable)
            {
                Limit("the connection was open, but no greeting came");
                return;
            }
            part.Cancel();
            own.GoodSince = clock.Now;
            Drop(ref former, BackSoon);
            Enter(ImState.Open, "");
            stream.Opened(isReconnect);
            Rejoin();
        }

        // --- What comes -------------------------------------------------------------------------------

        private void Received(Line own, string text)
        {
            double quiet = clock.Now - own.HeardAt;
            own.HeardAt = clock.Now;
            own.Heard += 1;
            if (quiet < Silence * patience / 2 && own.Heard > 1) patience = Math.Max(1, patience / 2);
            own.Answer?.TrySetResult(true);
            try
            {
                if (text == null) throw new FormatException("it is binary");
                if (own.IsResumable) Hear(own, Json.Members(text), text.Length);
                else stream.Told(text);
            }
            catch (FormatException error)
            {
                options.OnError?.Invoke(new ImException("a frame could not be read", error));
            }
        }

        private void Hear(Line own, Dictionary<string, string> frame, int size)
        {
            bool isFormer = own == former;
            if (frame.TryGetValue("hello", out string hello))
            {
                if (!isFormer) Greeted(own, Json.Members(hello));
            }
            else if (Json.TextOf(frame, "p") != null && (isFormer || own.IsGreeted)) stream.Took(frame, size, isFormer);
        }

        private void Greeted(Line own, Dictionary<string, string> hello)
        {
            bool isFirst = !own.IsGreeted;
            own.IsGreeted = true;
            keep = Json.NumberOf(hello, "keep") * 1000;
            if (isFirst)
            {
                part.Cancel();
                own.GoodSince = clock.Now;
                Drop(ref former, BackSoon);
                Enter(ImState.Open, "");
                Watch(own);
            }
            stream.Greeted(hello);
            if (!Json.IsTrue(hello, "channels")) Rejoin();
        }

        /// <summary>Has the channels joined again, until that works or the connection ends: the next one says whether it is still due.</summary>
        private async void Rejoin()
        {
            isJoinDue = true;
            if (isJoining || options.OnRejoin == null) return;
            isJoining = true;
            for (int tries = 0; isJoinDue && State == ImState.Open; tries += 1)
            {
                CancellationToken over = scope.Token;
                isJoinDue = false;
                try
                {
                    await options.OnRejoin(over);
                }
                catch (Exception error)
                {
                    isJoinDue = true;
                    if (over.IsCancellationRequested) continue;
                    options.OnError?.Invoke(new ImException("the channels could not be joined; trying again", error));
                    await clock.Pause(random.NextDouble() * Longest(tries), over);
                }
            }
            isJoining = false;
        }

        private void Say(string word)
        {
            if (line != null && line.IsGreeted) line.Say(word);
        }

        // --- Whether it lives ---------------------------------------------------------------------------

        private async void Watch(Line own)
        {
            while (own == line && !own.IsGone)
            {
                double before = clock.Now;
                await clock.Pause(WatchEvery);
                if (own != line || own.IsGone) return;
                if (clock.Now - before - WatchEvery >= Slept) Suspect(own, false);
                else if (clock.Now - own.HeardAt >= Silence * patience) Suspect(own, true);
            }
        }

        /// <summary>Asks the node, whose answer is whatever is heard next. One question at a time, and one a second.</summary>
        private async void Suspect(Line own, bool isSilence)
        {
            if (own == null || own.Answer != null) return;
            if (!own.IsResumable)
            {
                Dead(own, isSilence);
                return;
            }
            if (!own.IsGreeted) return;
            var answer = own.Answer = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
            double wait = probeAgainAt - clock.Now;
            probeAgainAt = Math.Max(probeAgainAt, clock.Now) + ProbeEvery;
            if (wait > 0) await clock.Pause(wait);
            if (own != line || own.IsGone) return;
            own.Say("{\"q\":1}");
            await Task.WhenAny(answer.Task, clock.Pause(ProbeWithin * patience));
            own.Answer = null;
            if (own != line || own.IsGone || answer.Task.IsCompleted) return;
            if (own.Heard <= 1) patience = Math.Min(8, patience * 2);
            Dead(own, isSilence);
        }

        /// <summary>The next connection is opened before this one is let go, if its node can resume.</summary>
        private void Dead(Line own, bool isSilence)
        {
            bool isGood = HasLasted;
            if (own.IsGreeted)
            {
                keptUntil = clock.Now + keep;
                Drop(ref former, BackSoon);
                former = own;
                line = null;
            }
            if (isGood) failures = 0;
            var error = new ImException("the link is taken for dead");
            // All clients may fall silent at once, and then they must not come back at once.
            if (isSilence || !isGood)
            {
                Fail(error, null);
                return;
            }
            Attempt();
            options.OnError?.Invoke(error);
        }

        private bool HasLasted => line != null && line.GoodSince.HasValue && clock.Now - line.GoodSince.Value >= StableAfter;

        // --- Ends and pauses ----------------------------------------------------------------------------

        /// <summary>The server or the network ended a connection, or refused it.</summary>
        private void Ended(Line own, int code, string reason)
        {
            if (own == former)
            {
                former = null;
                // Whoever is kicked is so on every connection; the next one may not have been there yet.
                if (code != Kick) return;
            }
            else if (own != line) return;
            if (code == Kick) End(ImState.Kicked, reason, Goodbye);
            else if (Fatal.TryGetValue(code, out string fault)) End(ImState.Failed, "close code " + code + ": " + fault, Goodbye);
            else
            {
                // Another process goes on from where this one was.
                if (code == Superseded) stream.Begin();
                Wait(Hint.Of(code, reason), code + " " + reason);
            }
        }

        private void Fail(Exception error, Hint hint)
        {
            options.OnError?.Invoke(error);
            Wait(hint, error.Message);
        }

        private void Wait(Hint hint, string why)
        {
            if (HasLasted)
            {
                failures = 0;
                lostAt = clock.Now;
            }
            LetGo();
            bool isKept = clock.Now < keptUntil && keep > 0;
            // Several attempts must fit into the time for which a node waits.
            double longest = isKept ? Math.Min(Longest(failures), keep / 4) : Longest(failures);
            if (clock.Now - lostAt < TakenOver) longest = Math.Min(longest, LongestUntilThen);
            failures += 1;
            double pause = random.NextDouble() * longest;
            if (hint != null)
            {
                pause = hint.After + random.NextDouble() * (double.IsNaN(hint.Spread) ? longest : hint.Spread);
                notBefore = clock.Now + pause;
            }
            Pause(Math.Max(50, Math.Max(pause, notBefore - clock.Now)), why);
        }

        private double Longest(int steps)
        {
            return Math.Min(options.LongestPause.TotalMilliseconds, options.FirstPause.TotalMilliseconds * Math.Pow(2, Math.Min(steps, 30)));
        }

        private async void Pause(double ms, string why)
        {
            CancellationToken over = scope.Token;
            isPaused = true;
            Enter(ImState.Waiting, why);
            await clock.Pause(ms, over);
            if (!over.IsCancellationRequested) Attempt();
        }

        /// <summary>Something speaks for another attempt now, or against the connection there is. What was asked for is waited for.</summary>
        private void Wake()
        {
            double left = notBefore - clock.Now;
            if (State == ImState.Open) Suspect(line, false);
            else if (State != ImState.Waiting) return;
            else if (left <= 0) Attempt();
            else if (!isPaused) Pause(left, "as was asked for");
        }

        private void End(ImState state, string why, int code)
        {
            if (IsEnded) return;
            stream.Flush();
            Drop(ref former, code);
            LetGo(code);
            keptUntil = double.NegativeInfinity;
            stream.Stop();
            Enter(state, why);
        }

        private void LetGo(int code = BackSoon)
        {
            scope.Cancel();
            scope = new CancellationTokenSource();
            part.Cancel();
            isPaused = false;
            if (line != null && line.IsGreeted) keptUntil = clock.Now + keep;
            Drop(ref line, code);
        }

        private static void Drop(ref Line line, int code)
        {
            line?.Leave(code, code == Goodbye ? "goodbye" : "back soon");
            line = null;
        }

        private void Enter(ImState state, string why)
        {
            State = state;
            options.OnState?.Invoke(state, why);
        }
    }

    /// <summary>A pause that others asked for; nothing shortens it. NaN for a spread: the back-off's.</summary>
    internal sealed class Hint
    {
        private const double Longest = 3600000;
        internal readonly double After, Spread;

        internal Hint(double after, double spread)
        {
            After = Math.Min(Math.Max(0, after), Longest);
            Spread = Math.Min(spread, Longest);
        }

        internal static Hint Of(int code, string reason)
        {
            return In(reason) ?? For(code);
        }

        private static Hint For(int code)
        {
            switch (code)
            {
                case 1001:
                case 1012: return new Hint(1000, double.NaN);
                case 1013: return new Hint(4000, 4000);
                // Another node owns this client now, and the next address leads there.
                case 4302: return new Hint(0, 0);
                case 4002: return new Hint(0, 1000);
                default: return null;
            }
        }

        /// <summary>What a server says in the reason of a close: {"after":ms,"spread":ms}.</summary>
        private static Hint In(string reason)
        {
            try
            {
                var members = Json.Members(reason);
                foreach (string name in new[] { "after", "spread" })
                {
                    if (members.TryGetValue(name, out string value) && !(value[0] >= '0' && value[0] <= '9')) return null;
                }
                return new Hint(Json.NumberOf(members, "after"), Json.NumberOf(members, "spread"));
            }
            catch (FormatException)
            {
                return null;
            }
        }
    }

    /// <summary>One connection, or the attempt at one.</summary>
    internal sealed class Line
    {
        /// <summary>How long the other side may take to answer a close.</summary>
        private static readonly TimeSpan CloseWithin = TimeSpan.FromSeconds(2);

        internal readonly CancellationTokenSource GivenUp = new CancellationTokenSource();
        internal IImSocket Socket;
        internal bool IsResumable, IsGreeted, IsGone;
        internal double HeardAt;
        internal int Heard;
        internal double? GoodSince;
        /// <summary>Of a probe that is under way.</summary>
        internal TaskCompletionSource<bool> Answer;
        private Task saying = Task.CompletedTask;

        /// <summary>It is open; perhaps after it was let go.</summary>
        internal void Begin()
        {
            if (IsGone) Drop();
        }

        /// <summary>Says a text, one after the other.</summary>
        internal void Say(string word)
        {
            if (!IsGone) saying = After(saying, () => Socket.SendAsync(word));
        }

        /// <summary>Says a close frame behind all that was said, and goes.</summary>
        internal async void Leave(int code, string reason)
        {
            if (IsGone)
            {
                Drop();
                return;
            }
            IsGone = true;
            if (Socket == null)
            {
                GivenUp.Cancel();
                return;
            }
            // Codes that stand for the lack of one are not said.
            int said = code == 1005 || code == 1006 ? 1000 : code;
            saying = After(saying, () => Socket.CloseAsync(said, reason));
            await Task.WhenAny(saying, Task.Delay(CloseWithin));
            await Task.Delay(CloseWithin);
            Drop();
        }

        internal void Drop()
        {
            IsGone = true;
            Socket?.Dispose();
        }

        private static async Task After(Task before, Func<Task> then)
        {
            await before;
            try
            {
                await then();
            }
            catch (Exception)
            {
                // Its end is told by whoever reads.
            }
        }
    }
}
