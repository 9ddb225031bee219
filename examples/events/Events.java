import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.HttpURLConnection;
import java.net.URL;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import java.util.regex.Pattern;

/**
 * Events that nobody misses, in Java without any library: README.md beside this says what it does. Java 11 or newer.
 *
 * <pre>java Events.java billing ledger.txt</pre>
 *
 * Java brings no reader of JSON; take the one that you have in place of {@link #member}.
 */
public class Events {
    static final String API = System.getenv().getOrDefault("IMSERVER_API", "http://127.0.0.1:7001");
    static final String KEY = System.getenv().getOrDefault("IMSERVER_API_KEY", "");
    /** Milliseconds; imserver says something every 10 s. */
    static final int SILENCE = 30_000;

    final String group;
    final Ledger ledger;
    String last;
    long pause = 500;

    Events(String group, Path path) throws IOException {
        this.group = group;
        ledger = new Ledger(path);
    }

    public static void main(String[] args) throws Exception {
        Events events = new Events(args[0], Path.of(args[1]));
        for (;; events.pause = Math.min(2 * events.pause, SILENCE)) {
            try {
                events.read();
            } catch (IOException error) {
                System.err.println("once more: " + error.getMessage());
            }
            Thread.sleep(ThreadLocalRandom.current().nextLong(events.pause / 2, events.pause));
        }
    }

    /** Goes on behind what was handled last, until something fails. */
    void read() throws IOException {
        try (BufferedReader lines = reader(ask("/v1/events?group=" + encoded(group), null, last))) {
            Map<String, String> fields = new HashMap<>();
            for (String line; (line = lines.readLine()) != null;) {
                int at = line.indexOf(": ");
                if (at > 0) {
                    fields.put(line.substring(0, at), line.substring(at + 2));
                }
                if (line.isEmpty() && fields.containsKey("data")) {
                    handle(fields.get("event"), fields.get("data"));
                    last = fields.getOrDefault("id", last);
                    pause = 500;
                    fields.clear();
                }
            }
            throw new IOException("the stream has ended");
        }
    }

    /** Handles an event, and acknowledges it then. */
    void handle(String kind, String data) throws IOException {
        String done;
        if (kind.equals("missed")) {
            String count = member(data, "missed");
            ledger.missed(count);
            done = "\"missed\":" + (count.equals("null") ? "0" : count);
        } else {
            ledger.handle(kind, data);
            done = "\"ids\":[\"" + member(data, "id") + "\"]";
        }
        ask("/v1/events/acknowledgements", "{\"group\":\"" + group + "\"," + done + "}", null).close();
    }

    /** Stands for your database. */
    static class Ledger {
        final Path path;
        final Set<String> known = new HashSet<>();

        Ledger(Path path) throws IOException {
            this.path = path;
            if (Files.exists(path)) {
                Files.readAllLines(path).forEach(line -> known.add(line.split(" ")[0]));
            }
        }

        void write(String line) throws IOException {
            Files.writeString(path, line + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        }

        /** What comes a second time has the same id, and changes nothing. */
        void handle(String kind, String data) throws IOException {
            String id = member(data, "id");
            if (!known.contains(id)) {
                write(id + " " + kind + " " + word(member(data, "client")) + " " + word(member(data, "reason")));
                known.add(id);
            }
        }

        /** Some were never told: what is true now replaces what they would have said. */
        void missed(String count) throws IOException {
            write("- missed " + count + " online " + whoIsOnline().size());
        }
    }

    static Set<String> whoIsOnline() throws IOException {
        Set<String> clients = new HashSet<>();
        for (String query = "";;) {
            String page;
            try (InputStream answer = ask("/v1/clients?limit=1000" + query, null, null)) {
                page = new String(answer.readAllBytes(), StandardCharsets.UTF_8);
            }
            var list = Pattern.compile("\"(-?[0-9a-f][0-9a-f-]*)\"").matcher(page.replaceFirst("].*", "]"));
            list.results().forEach(match -> clients.add(match.group(1)));
            String next = member(page, "next");
            if (next.equals("null")) {
                return clients;
            }
            query = "&after=" + encoded(next);
        }
    }

    /** A text without escapes, or a number, or null: all that is needed of these answers. */
    static String member(String json, String name) {
        var match = Pattern.compile("\"" + name + "\":\"?([^\",}]*)").matcher(json);
        return match.find() ? match.group(1) : "null";
    }

    static InputStream ask(String path, String body, String last) throws IOException {
        var connection = (HttpURLConnection) new URL(API + path).openConnection();
        connection.setConnectTimeout(SILENCE);
        connection.setReadTimeout(SILENCE);
        connection.setRequestProperty("Authorization", "Bearer " + KEY);
        connection.setRequestProperty("Content-Type", "application/json");
        if (last != null) {
            connection.setRequestProperty("Last-Event-ID", last);
        }
        if (body != null) {
            connection.setDoOutput(true);
            connection.getOutputStream().write(body.getBytes(StandardCharsets.UTF_8));
        }
        if (connection.getResponseCode() >= 300) {
            try (InputStream answer = connection.getErrorStream()) {
                String detail = answer == null ? "" : new String(answer.readAllBytes(), StandardCharsets.UTF_8);
                throw new IOException("HTTP " + connection.getResponseCode() + ": " + detail);
            }
        }
        return connection.getInputStream();
    }

    static BufferedReader reader(InputStream stream) {
        return new BufferedReader(new InputStreamReader(stream, StandardCharsets.UTF_8));
    }

    static String encoded(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8);
    }

    static String word(String value) {
        return value.equals("null") ? "-" : value;
    }
}
