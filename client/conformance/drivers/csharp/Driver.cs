// The driver of the C# client: `Driver.exe [tcp|websocket]`, by which it connects. ../../README.md says what a driver is.

using System;
using System.Collections.Concurrent;
using System.IO;
using System.Net.Http;
using System.Text;
using System.Threading.Tasks;
using Imcore;

internal static class Driver
{
    /// <summary>How many times faster its clock runs.</summary>
    private const int Speed = 8;

    private static readonly HttpClient Http = new HttpClient();
    /// <summary>What the application is to hold up, and who waits until it may go on.</summary>
    private static readonly ConcurrentDictionary<string, bool> Held = new ConcurrentDictionary<string, bool>();
    private static readonly TextWriter Output = new StreamWriter(Console.OpenStandardOutput(), new UTF8Encoding(false)) { AutoFlush = true };
    private static TaskCompletionSource<bool> goOn = New();
    private static ImClient client;

    private static void Main(string[] arguments)
    {
        bool isTcp = arguments.Length == 0 || arguments[0] == "tcp";
        System.Net.ServicePointManager.DefaultConnectionLimit = 100;
        Tell("{\"is\":\"ready\",\"speed\":" + Speed + "}");
        for (string line = Console.ReadLine(); line != null; line = Console.ReadLine())
        {
            var command = Json.Members(line);
            switch (Json.TextOf(command, "do"))
            {
                case "start": Start(Json.TextOf(command, "address"), Json.TextOf(command, "store"), isTcp); break;
                case "hold": Held[Json.TextOf(command, "what")] = true; break;
                case "release": Release(); break;
                case "doubt": client.Doubt().Wait(); break;
                case "away": client.Away().Wait(); break;
                case "back": client.Back().Wait(); break;
                case "sign out": client.Close().Wait(); break;
                case "sign in": client.Connect().Wait(); break;
                case "stop":
                    Release();
                    client.Close().Wait();
                    break;
            }
            Tell("{\"is\":\"done\"}");
        }
    }

    private static void Start(string address, string store, bool isTcp)
    {
        client = new ImClient(new ImOptions
        {
            GetAddress = ImAddress.Post(address, Http),
            Position = new FilePosition(store),
            Transport = isTcp ? (IImTransport)new TcpTransport() : new WebSocketTransport(),
            Clock = new ImClock(Speed),
            OnMessage = message =>
            {
                Tell("{\"is\":\"message\",\"value\":" + (message.IsJson ? message.Text : Json.Quote(message.Text)) + "}");
                return MayGoOn("message");
            },
            OnResync = resync =>
            {
                Tell("{\"is\":\"load\",\"why\":" + OrNull(resync.Why) + "}");
                return MayGoOn("load");
            },
            OnRejoin = _ =>
            {
                Tell("{\"is\":\"join\"}");
                return Task.CompletedTask;
            },
            OnReceipt = receipt => Tell("{\"is\":\"receipt\",\"to\":" + OrNull(receipt.To) + ",\"status\":" + OrNull(receipt.Status)
                + ",\"id\":" + OrNull(receipt.Id) + "}"),
            OnState = (state, why) =>
            {
                Console.Error.WriteLine(state + " " + why);
                if (state == ImState.Closed || state == ImState.Kicked || state == ImState.Failed)
                {
                    Tell("{\"is\":\"end\",\"why\":\"" + state.ToString().ToLowerInvariant() + "\"}");
                }
            },
            OnError = error => Console.Error.WriteLine(error),
        });
        client.Connect().Wait();
    }

    private static Task MayGoOn(string what)
    {
        return Held.ContainsKey(what) ? goOn.Task : Task.CompletedTask;
    }

    private static void Release()
    {
        Held.Clear();
        TaskCompletionSource<bool> waiting = goOn;
        goOn = New();
        waiting.SetResult(true);
    }

    private static TaskCompletionSource<bool> New()
    {
        return new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
    }

    private static string OrNull(string text)
    {
        return text == null ? "null" : Json.Quote(text);
    }

    private static void Tell(string line)
    {
        lock (Output) Output.WriteLine(line);
    }
}
