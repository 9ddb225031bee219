// Where a client runs: one thing after the other, so that nothing in it needs a lock. In a program with a main thread (Unity, WPF) that
// is its context, and handlers may touch what is shown; else this one, on the threads of the pool.

using System.Collections.Generic;
using System.Threading;

namespace Imcore
{
    internal sealed class Turns : SynchronizationContext
    {
        private readonly Queue<KeyValuePair<SendOrPostCallback, object>> waiting = new Queue<KeyValuePair<SendOrPostCallback, object>>();
        private bool isRunning;

        public override void Post(SendOrPostCallback call, object state)
        {
            lock (waiting)
            {
                waiting.Enqueue(new KeyValuePair<SendOrPostCallback, object>(call, state));
                if (isRunning) return;
                isRunning = true;
            }
            ThreadPool.QueueUserWorkItem(_ => Run());
        }

        public override SynchronizationContext CreateCopy()
        {
            return this;
        }

        private void Run()
        {
            SynchronizationContext before = Current;
            SetSynchronizationContext(this);
            for (;;)
            {
                KeyValuePair<SendOrPostCallback, object> next;
                lock (waiting)
                {
                    if (waiting.Count == 0)
                    {
                        isRunning = false;
                        break;
                    }
                    next = waiting.Dequeue();
                }
                next.Key(next.Value);
            }
            SetSynchronizationContext(before);
        }
    }
}
