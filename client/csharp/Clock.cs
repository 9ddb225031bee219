// The client's clock and its pauses. A test has one that runs faster.

using System;
using System.Diagnostics;
using System.Threading;
using System.Threading.Tasks;

namespace Imcore
{
    /// <summary>A clock that nobody sets.</summary>
    public sealed class ImClock
    {
        private readonly double speed;

        /// <param name="speed">How many times faster than time it runs.</param>
        public ImClock(double speed = 1)
        {
            this.speed = speed;
        }

        /// <summary>Milliseconds since some moment.</summary>
        internal double Now => Stopwatch.GetTimestamp() * 1000.0 / Stopwatch.Frequency * speed;

        /// <summary>A pause; one that is cut short is simply over.</summary>
        internal async Task Pause(double ms, CancellationToken cut = default(CancellationToken))
        {
            try
            {
                await Task.Delay(TimeSpan.FromMilliseconds(Math.Max(0, ms) / speed), cut);
            }
            catch (OperationCanceledException)
            {
            }
        }
    }
}
