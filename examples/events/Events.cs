// Events that nobody misses, in C# without any package: README.md beside this says what it does. .NET, or Mono:
//
//   mcs -r:System.Net.Http,System.Runtime.Serialization Events.cs && mono Events.exe billing ledger.txt

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Runtime.Serialization;
using System.Runtime.Serialization.Json;
using System.Text;
using System.Threading.Tasks;

[DataContract]
class Event
{
    [DataMember(Name = "id")] public string Id = "";
    [DataMember(Name = "client")] public string Client = null;
    [DataMember(Name = "reason")] public string Reason = null;
    [DataMember(Name = "missed")] public long? Missed = null;
}

[DataContract]
class Page
{
    [DataMember(Name = "clients")] public string[] Clients = { };
    [DataMember(Name = "next")] public string Next = null;
}

/// <summary>Stands for your database.</summary>
class Ledger
{
    readonly string path;
    readonly HashSet<string> known;

    public Ledger(string path)
    {
        this.path = path;
        var lines = File.Exists(path) ? File.ReadAllLines(path) : new string[0];
        known = new HashSet<string>(lines.Select(line => line.Split(' ')[0]));
    }

    /// <summary>What comes a second time has the same id, and changes nothing.</summary>
    public void Handle(string kind, Event data)
    {
        if (known.Contains(data.Id)) return;
        File.AppendAllText(path, $"{data.Id} {kind} {data.Client ?? "-"} {data.Reason ?? "-"}\n");
        known.Add(data.Id);
    }

    /// <summary>Some were never told: what is true now replaces what they would have said.</summary>
    public void Missed(long? count, List<string> online)
    {
        File.AppendAllText(path, $"- missed {count?.ToString() ?? "null"} online {online.Count}\n");
    }
}

static class Events
{
    // Imserver says something every 10 s.
    static readonly TimeSpan Silence = TimeSpan.FromSeconds(30);
    static readonly TimeSpan First = TimeSpan.FromSeconds(0.5);
    static readonly HttpClient Http = new HttpClient { Timeout = Silence };
    static string last;
    static TimeSpan pause = First;

    static void Main(string[] args)
    {
        Run(args[0], new Ledger(args[1])).GetAwaiter().GetResult();
    }

    static async Task Run(string group, Ledger ledger)
    {
        var key = Environment.GetEnvironmentVariable("IMSERVER_API_KEY");
        Http.BaseAddress = new Uri(Environment.GetEnvironmentVariable("IMSERVER_API") ?? "http://127.0.0.1:7001");
        Http.DefaultRequestHeaders.Add("Authorization", "Bearer " + key);
        var random = new Random();
        while (true)
        {
            try
            {
                await Read(group, ledger);
            }
            catch (Exception error) when (error is HttpRequestException || error is IOException || error is OperationCanceledException)
            {
                Console.Error.WriteLine("once more: " + error.Message);
            }
            await Task.Delay(TimeSpan.FromSeconds(pause.TotalSeconds * (0.5 + random.NextDouble() / 2)));
            pause = TimeSpan.FromSeconds(Math.Min(2 * pause.TotalSeconds, Silence.TotalSeconds));
        }
    }

    /// <summary>Goes on behind what was handled last, until something fails.</summary>
    static async Task Read(string group, Ledger ledger)
    {
        var request = new HttpRequestMessage(HttpMethod.Get, "/v1/events?group=" + Uri.EscapeDataString(group));
        if (last != null) request.Headers.Add("Last-Event-ID", last);
        using (var answer = await Http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead))
        using (var lines = new StreamReader(await Accepted(answer).Content.ReadAsStreamAsync()))
        {
            var fields = new Dictionary<string, string>();
            while (true)
            {
                var next = lines.ReadLineAsync();
                if (await Task.WhenAny(next, Task.Delay(Silence)) != next) throw new IOException("nothing was heard");
                var line = await next;
                if (line == null) throw new IOException("the stream has ended");
                var at = line.IndexOf(": ", StringComparison.Ordinal);
                if (at > 0) fields[line.Substring(0, at)] = line.Substring(at + 2);
                if (line != "" || !fields.ContainsKey("data")) continue;
                await Handle(group, ledger, fields["event"], Json<Event>(fields["data"]));
                if (fields.ContainsKey("id")) last = fields["id"];
                pause = First;
                fields.Clear();
            }
        }
    }

    /// <summary>Handles an event, and acknowledges it then.</summary>
    static async Task Handle(string group, Ledger ledger, string kind, Event data)
    {
        string done;
        if (kind == "missed")
        {
            ledger.Missed(data.Missed, await WhoIsOnline());
            done = $"\"missed\":{data.Missed ?? 0}";
        }
        else
        {
            ledger.Handle(kind, data);
            done = $"\"ids\":[\"{data.Id}\"]";
        }
        var body = new StringContent($"{{\"group\":\"{group}\",{done}}}", Encoding.UTF8, "application/json");
        using (var answer = await Http.PostAsync("/v1/events/acknowledgements", body)) Accepted(answer);
    }

    static async Task<List<string>> WhoIsOnline()
    {
        var clients = new List<string>();
        for (var query = ""; ;)
        {
            var page = Json<Page>(await Http.GetStringAsync("/v1/clients?limit=1000" + query));
            clients.AddRange(page.Clients);
            if (page.Next == null) return clients;
            query = "&after=" + Uri.EscapeDataString(page.Next);
        }
    }

    static HttpResponseMessage Accepted(HttpResponseMessage answer)
    {
        return answer.EnsureSuccessStatusCode();
    }

    static T Json<T>(string text)
    {
        using (var bytes = new MemoryStream(Encoding.UTF8.GetBytes(text)))
            return (T)new DataContractJsonSerializer(typeof(T)).ReadObject(bytes);
    }
}
