// Asks a web API for an address, as im.js does.

using System;
using System.Net.Http;
using System.Threading;
using System.Threading.Tasks;

namespace Imcore
{
    /// <summary>For ImOptions.GetAddress.</summary>
    public static class ImAddress
    {
        /// <summary>Asks by POST for {"url": ".."}. 401 and a null end it all; any other failure is tried again, after its Retry-After.</summary>
        /// <param name="address">Of your web API: `https://..`.</param>
        /// <param name="http">With the cookies or headers by which it knows who asks.</param>
        public static Func<CancellationToken, Task<string>> Post(string address, HttpClient http)
        {
            return async cancelled =>
            {
                using (HttpResponseMessage answer = await http.PostAsync(address, null, cancelled).ConfigureAwait(false))
                {
                    int status = (int)answer.StatusCode;
                    if (status == 401) return null;
                    if (!answer.IsSuccessStatusCode) throw new ImRefusedException(address + ": status " + status, After(answer));
                    string body = await answer.Content.ReadAsStringAsync().ConfigureAwait(false);
                    if (body.Trim() == "null") return null;
                    var members = Json.Members(body);
                    if (members.TryGetValue("url", out string url) && url == "null") return null;
                    return Json.TextOf(members, "url") ?? throw new ImException(address + " gave no url");
                }
            };
        }

        private static TimeSpan? After(HttpResponseMessage answer)
        {
            var after = answer.Headers.RetryAfter;
            if (after == null) return null;
            return after.Delta ?? (after.Date.HasValue ? after.Date.Value - DateTimeOffset.UtcNow : (TimeSpan?)null);
        }
    }
}
