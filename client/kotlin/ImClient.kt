// An example of a client for Android and the JVM: one push connection to imcore that stays up and misses nothing. It needs OkHttp and
// org.json, which Android has. What it does is docs/protocol.md, "imcore.1"; the numbers in brackets are the rules there. It passes the
// conformance kit with Kotlin 1.3 and OkHttp 3.13, but for the pauses that closes with 1012 and 1013 ask for: OkHttp does not tell them.
//
// Everything happens on one thread, one thing after the other: `turns`. Addresses are asked for on a thread of their own.

package imcore

import java.net.URLEncoder
import java.util.ArrayDeque
import java.util.concurrent.Executors
import java.util.concurrent.Future
import java.util.concurrent.TimeUnit
import kotlin.concurrent.thread
import kotlin.math.max
import kotlin.math.min
import okhttp3.OkHttpClient
import okhttp3.Request
import okhttp3.Response
import okhttp3.WebSocket
import okhttp3.WebSocketListener
import org.json.JSONException
import org.json.JSONObject

/** What the application is. All calls of it come one after the other, on the client's thread, but for `address`. */
interface Application {
    /** Asks your web API for an address, which is used once. Null: nobody is signed in. Whatever it throws leads to another attempt. */
    fun address(): String?
    /** Handles a message, then calls `done`, from any thread: the node is told so, and the next one comes. */
    fun message(value: Any?, done: () -> Unit)
    /** Loads the state, then calls `done` with whether that worked. `why` is null on a first connection. */
    fun load(why: String?, done: (Boolean) -> Unit)
    /** Joins its channels through your web API. */
    fun join()
    fun receipt(receipt: JSONObject) {}
    /** `connecting`, `open`, `waiting`; `closed`, `kicked`, `failed` are ends. */
    fun state(state: String) {}
    /** The text that was saved last, empty or null if there is none; of this user and device alone. */
    fun position(): String?
    fun save(position: String)
}

private const val GOODBYE = 1000
private const val BACK_SOON = 3001
private const val KICKED = 4001
private const val SUPERSEDED = 4002
private val FATAL = setOf(1002, 1007, 1008, 1009, 4003)

class ImClient(private val app: Application, private val http: OkHttpClient = OkHttpClient(), private val speed: Double = 1.0) {
    private class Entry(val p: String, val message: Any?, val receipt: JSONObject?, val isMessage: Boolean)
    private class Load(val why: String?, val p: String, val spread: Double)
    private class Hint(val after: Double, val spread: Double?)

    private val turns = Executors.newSingleThreadScheduledExecutor { call -> Thread(call, "imcore").apply { isDaemon = true } }
    private var state = "closed"
    /** The connection there is; the one before, heard until another has taken over; what waits for its time. */
    private var line: Line? = null
    private var former: Line? = null
    private var timer: Future<*>? = null
    /** Counts attempts, connections and pauses: what belongs to another one is void. */
    private var turn = 0
    private var failures = 0
    private var notBefore = 0.0
    private var keep = 0.0
    private var lostAt = Double.NEGATIVE_INFINITY
    private var isPaused = false
    /** The stream: which connection it goes on from, up to where all is handled, what the node was told. */
    private var c = ""
    private var since = ""
    private var acknowledged = ""
    private var acknowledgedAt = -1e9
    private var acknowledging: Future<*>? = null
    private var isLoaded = false
    private val overlap = HashSet<String>()
    private val waiting = ArrayDeque<Entry>()
    private var current: Entry? = null
    private var load: Load? = null
    private var isBusy = false
    /** Counts what was thrown away: a handler that returns to another one has come too late. */
    private var scope = 0

    fun connect(): Future<*> = turns.submit { if (isEnded()) { failures = 0; notBefore = 0.0; attempt() } }
    /** The user signs out (6). */
    fun close(): Future<*> = turns.submit { end("closed", GOODBYE) }
    /** The app goes to the background: onStop of ProcessLifecycleOwner. */
    fun away(): Future<*> = turns.submit { if (!isEnded()) { acknowledge(); drop(former, BACK_SOON); former = null; letGo(); enter("waiting") } }
    fun back(): Future<*> = turns.submit { wake() }
    /** The network is another one: onAvailable of ConnectivityManager. */
    fun doubt(): Future<*> = turns.submit { if (state == "connecting") attempt() else { if (state == "waiting") failures = 0; wake() } }

    private fun now() = System.nanoTime() / 1e6 * speed
    private fun later(ms: Double, call: () -> Unit): Future<*> =
        turns.schedule(Runnable { call() }, (ms / speed).toLong(), TimeUnit.MILLISECONDS)
    private fun isEnded() = state == "closed" || state == "kicked" || state == "failed"
    private fun enter(next: String) { state = next; app.state(next) }

    // --- Attempts ---------------------------------------------------------------------------------

    private fun attempt() {
        letGo()
        val own = turn
        enter("connecting")
        if (!isLoaded && c == "") {
            isLoaded = true
            val stored = app.position().orEmpty().split(" ")
            if (stored.size == 2) { c = stored[0]; since = stored[1]; acknowledged = since }
        }
        timer = later(10_000.0) { pause(null) }
        thread(isDaemon = true) {
            val address = try { app.address() ?: "" } catch (error: Exception) { null }
            turns.execute {
                if (own == turn) when (address) { null -> pause(null); "" -> end("failed", GOODBYE); else -> open(address) }
            }
        }
    }

    private fun open(address: String) {
        timer?.cancel(false)
        timer = later(10_000.0) { pause(null) }
        overlap.clear()
        for (entry in listOfNotNull(current) + waiting) if (entry.isMessage || entry.receipt != null) overlap.add(entry.p)
        acknowledged = since
        val from = if (c == "" || since == "") "" else "&since=${escaped(since)}&c=${escaped(c)}"
        line = Line(Request.Builder().url(address + from).header("Sec-WebSocket-Protocol", "imcore.1").build())
    }

    private fun escaped(text: String) = URLEncoder.encode(text, "UTF-8").replace("+", "%20")

    private fun pause(hint: Hint?) {
        if (line?.goodSince?.let { now() - it >= 5_000 } == true) { failures = 0; lostAt = now() }
        letGo()
        // Several attempts must fit into the time for which a node waits; and within 10 s others take over from a node that died.
        val most = min(if (keep > 0) keep / 4 else 30_000.0, if (now() - lostAt < 16_000) 4_000.0 else 30_000.0)
        val longest = min(min(most, 30_000.0), 2_500 * Math.pow(2.0, min(failures, 9).toDouble()))
        failures += 1
        var ms = Math.random() * longest
        if (hint != null) {
            ms = hint.after + Math.random() * (hint.spread ?: longest)
            notBefore = now() + ms
        }
        rest(max(50.0, max(ms, notBefore - now())))
    }

    private fun rest(ms: Double) {
        isPaused = true
        enter("waiting")
        timer = later(ms) { attempt() }
    }

    /** Something speaks for another attempt, or against the connection. A pause that was asked for is kept (8). */
    private fun wake() {
        val left = notBefore - now()
        if (state == "open") line?.suspect()
        else if (state == "waiting" && left <= 0) attempt()
        else if (state == "waiting" && !isPaused) rest(left)
    }

    private fun letGo(code: Int = BACK_SOON) {
        turn += 1
        timer?.cancel(false)
        isPaused = false
        drop(line, code)
        line = null
    }

    private fun drop(line: Line?, code: Int) { line?.leave(code) }

    private fun end(next: String, code: Int) {
        if (isEnded()) return
        acknowledge()
        drop(former, code)
        former = null
        letGo(code)
        begin()
        isLoaded = false
        enter(next)
    }

    /** One connection, or the attempt at one. */
    private inner class Line(request: Request) : WebSocketListener() {
        var goodSince: Double? = null
        var isGreeted = false
        private var isResumable = false
        private var isGone = false
        private var heardAt = now()
        private var probe: Future<*>? = null
        private val socket = http.newWebSocket(request, this)

        override fun onOpen(webSocket: WebSocket, response: Response) = turns.execute {
            isResumable = response.header("Sec-WebSocket-Protocol") == "imcore.1"
            if (isGone) webSocket.close(BACK_SOON, null)
            else if (!isResumable) { opened(); if (c != "") begin(); resync(if (failures > 0) "epoch" else null, "", 0.0); app.join() }
        }
        override fun onMessage(webSocket: WebSocket, text: String) = turns.execute { if (!isGone) heard(text) }
        override fun onClosing(webSocket: WebSocket, code: Int, reason: String) {
            webSocket.close(if (code == 1005) GOODBYE else code, null)
            turns.execute { ended(code, reason) }
        }
        override fun onFailure(webSocket: WebSocket, t: Throwable, response: Response?) {
            // OkHttp takes 1012 and 1013 for reserved, and says so in words alone: the pause that a node asks for with them is lost.
            val code = Regex("Code (101[23]) is reserved").find(t.message.orEmpty())?.groupValues?.get(1)?.toInt() ?: 1006
            turns.execute { ended(code, "") }
        }

        fun say(word: JSONObject) { if (!isGone) socket.send(word.toString()) }
        fun leave(code: Int) { if (!isGone) { isGone = true; probe?.cancel(false); if (!socket.close(code, null)) socket.cancel() } }

        private fun opened() {
            timer?.cancel(false)
            goodSince = now()
            drop(former, BACK_SOON)
            former = null
            enter("open")
        }

        private fun heard(text: String) {
            heardAt = now()
            probe?.cancel(false)
            probe = null
            val frame = try { if (isResumable) JSONObject(text) else null } catch (error: JSONException) { return }
            if (frame == null) return add(Entry("", bare(text), null, true))
            val hello = frame.optJSONObject("hello")
            if (hello != null && this == line) greeted(hello)
            else if (frame.opt("p") is String && (isGreeted || this == former)) took(frame, this == former)
        }

        private fun greeted(hello: JSONObject) {
            keep = hello.optDouble("keep", 0.0) * 1000
            if (!isGreeted) { isGreeted = true; opened(); watch() }
            c = hello.getString("c")
            // (2) and (3)
            if (!hello.optBoolean("resumed")) resync(if (hello.has("why")) hello.getString("why") else null, hello.getString("p"), hello.optDouble("spread", 0.0))
            if (!hello.optBoolean("channels")) app.join()
        }

        /** 40 s without a frame are a doubt as well (5). */
        private fun watch() { later(5_000.0) { if (!isGone && this == line) { if (now() - heardAt >= 40_000) suspect(); watch() } } }

        fun suspect() {
            if (isGone || probe != null) return
            if (!isResumable) return pause(null)
            say(JSONObject().put("q", 1))
            val isSilent = now() - heardAt >= 40_000
            probe = later(3_000.0) {
                // The next connection is opened before this one is let go. After a silence with a pause: all clients may have heard nothing.
                drop(former, BACK_SOON)
                former = this
                line = null
                if (isSilent) pause(null) else attempt()
            }
        }

        private fun ended(code: Int, reason: String) {
            val wasFormer = this == former
            if (isGone || !(wasFormer || this == line)) return
            isGone = true
            probe?.cancel(false)
            if (wasFormer) former = null
            if (code == KICKED) end("kicked", GOODBYE)
            else if (wasFormer) return
            else if (code in FATAL) end("failed", GOODBYE)
            else {
                if (code == SUPERSEDED) begin()  // (7)
                pause(hint(code, reason))
            }
        }
    }

    private fun hint(code: Int, reason: String): Hint? {
        try {
            val asked = JSONObject(reason)
            val (after, spread) = listOf("after", "spread").map { asked.optDouble(it, if (asked.has(it)) -1.0 else 0.0) }
            if (after >= 0 && spread >= 0) return Hint(min(after, 3_600_000.0), min(spread, 3_600_000.0))
        } catch (error: JSONException) {
            // It is a sentence.
        }
        return when (code) { 1001, 1012 -> Hint(1_000.0, null); 1013 -> Hint(4_000.0, 4_000.0); 4302 -> Hint(0.0, 0.0); SUPERSEDED -> Hint(0.0, 1_000.0); else -> null }
    }

    private fun bare(text: String): Any? = try { JSONObject("{\"v\":$text}").get("v") } catch (error: JSONException) { text }

    // --- The stream (4) -----------------------------------------------------------------------------

    private fun took(frame: JSONObject, isFormer: Boolean) {
        val isMessage = frame.has("m") || frame.has("t")
        val entry = Entry(frame.getString("p"), frame.opt("m") ?: frame.opt("t"), frame.optJSONObject("r"), isMessage)
        if (isMessage || entry.receipt != null) {
            // What the former connection still brings comes again on the next one.
            if (isFormer) overlap.add(entry.p) else if (overlap.remove(entry.p)) return
        }
        add(entry)
    }

    private fun add(entry: Entry) {
        waiting.add(entry)
        if (waiting.size > 1_000) resync("too_much", entry.p, 0.0) else work()
    }

    /** Takes the node's position at once, and has the state loaded in place of all that waits. */
    private fun resync(why: String?, p: String, spread: Double) {
        clear()
        if (p != "") since = p
        acknowledged = since
        load = Load(why, p, spread)
        work()
    }

    private fun clear() { scope += 1; waiting.clear(); overlap.clear() }
    private fun begin() { clear(); load = null; c = ""; since = ""; acknowledged = ""; app.save("") }

    /** One call of the application at a time. */
    private fun work() {
        if (isBusy) return
        val own = scope
        val due = load
        if (due != null) {
            isBusy = true
            later(Math.random() * due.spread) { carryOut(due, own, 0) }
            return
        }
        val entry = waiting.poll() ?: return
        isBusy = true
        current = entry
        val done = { turns.execute { isBusy = false; current = null; if (own == scope) handled(entry.p); work() } }
        if (entry.receipt != null) app.receipt(entry.receipt)
        if (entry.isMessage) app.message(entry.message, done) else done()
    }

    private fun carryOut(due: Load, own: Int, tries: Int) {
        if (own != scope) {
            isBusy = false
            return work()
        }
        app.load(due.why) { isDone ->
            turns.execute {
                if (own == scope && !isDone) later(Math.random() * min(30_000.0, 2_500 * Math.pow(2.0, min(tries, 9).toDouble()))) { carryOut(due, own, tries + 1) }
                else {
                    isBusy = false
                    if (own == scope) { load = null; handled(due.p) }
                    work()
                }
            }
        }
    }

    private fun handled(p: String) {
        if (c == "" || p == "") return
        since = p
        app.save("$c $p")
        val wait = acknowledgedAt + 1_000 - now()
        if (wait <= 0) acknowledge() else if (acknowledging == null) acknowledging = later(wait) { acknowledge() }
    }

    /** At most once a second, and at once before the app goes. A load that is under way has handled nothing yet. */
    private fun acknowledge() {
        acknowledging?.cancel(false)
        acknowledging = null
        if (load != null || since == acknowledged || line?.isGreeted != true) return
        acknowledged = since
        acknowledgedAt = now()
        line?.say(JSONObject().put("a", since))
    }
}
