// The driver of the example in Kotlin. ../../README.md says what a driver is. With the packages kotlin, libokhttp-java and
// libandroid-json-java of Debian (or their jars from elsewhere), from here:
//
//   J=/usr/share/java; LIBS=$J/okhttp.jar:$J/okio.jar:$J/com.android.json.jar
//   kotlinc -cp $LIBS ../../../kotlin/ImClient.kt Driver.kt -d /tmp/driver.jar
//   node ../../run.js -- java -cp /tmp/driver.jar:$LIBS:$J/kotlin-stdlib.jar DriverKt

import imcore.Application
import imcore.ImClient
import java.io.File
import java.io.PrintStream
import java.net.HttpURLConnection
import java.net.URL
import org.json.JSONObject

const val SPEED = 5.0
val output = PrintStream(java.io.FileOutputStream(java.io.FileDescriptor.out), true, "UTF-8")
val held = HashSet<String>()
val waiting = ArrayList<() -> Unit>()

fun tell(event: JSONObject) = synchronized(output) { output.println(event) }
fun event(what: String) = JSONObject().put("is", what)
fun orNull(value: Any?): Any = value ?: JSONObject.NULL
fun mayGoOn(what: String, goOn: () -> Unit) = synchronized(held) { if (what in held) { waiting.add(goOn); Unit } else goOn() }
fun release() = synchronized(held) { held.clear(); waiting.forEach { it() }; waiting.clear() }

class App(private val api: String, private val store: File) : Application {
    override fun address(): String? {
        val asked = URL(api).openConnection() as HttpURLConnection
        asked.requestMethod = "POST"
        if (asked.responseCode == 401) return null
        return JSONObject(asked.inputStream.reader().readText()).getString("url")
    }
    override fun message(value: Any?, done: () -> Unit) { tell(event("message").put("value", orNull(value))); mayGoOn("message", done) }
    override fun load(why: String?, done: (Boolean) -> Unit) { tell(event("load").put("why", orNull(why))); mayGoOn("load") { done(true) } }
    override fun join() = tell(event("join"))
    override fun receipt(receipt: JSONObject) =
        tell(event("receipt").put("to", receipt.opt("to")).put("status", receipt.opt("status")).put("id", orNull(receipt.opt("id"))))
    override fun state(state: String) { if (state in setOf("closed", "kicked", "failed")) tell(event("end").put("why", state)) }
    override fun position(): String? = if (store.exists()) store.readText() else null
    override fun save(position: String) = store.writeText(position)
}

fun main() {
    var client: ImClient? = null
    tell(event("ready").put("speed", SPEED))
    for (line in generateSequence(::readLine)) {
        val command = JSONObject(line)
        when (command.getString("do")) {
            "start" -> client = ImClient(App(command.getString("address"), File(command.getString("store"))), speed = SPEED).also { it.connect().get() }
            "hold" -> synchronized(held) { held.add(command.getString("what")) }
            "release" -> release()
            "doubt" -> client?.doubt()?.get()
            "away" -> client?.away()?.get()
            "back" -> client?.back()?.get()
            "sign out" -> client?.close()?.get()
            "sign in" -> client?.connect()?.get()
            "stop" -> { release(); client?.close()?.get() }
        }
                tell(event("done"))
    }
    System.exit(0)
}
