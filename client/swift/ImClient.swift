// An example of a client for iOS and macOS: one push connection to imcore that stays up and misses nothing, over URLSession and without any
// other library. It follows the example in Kotlin, which was played with the conformance kit, but was itself neither compiled nor run. What it does is
// docs/protocol.md, "imcore.1"; the numbers in brackets are the rules there.
//
// Everything happens on the main actor, one thing after the other.

import Foundation

/// What the application is. Its calls come one after the other.
@MainActor
protocol ImApplication: AnyObject {
    /// Asks your web API for an address, which is used once. Nil: nobody is signed in. Whatever it throws leads to another attempt.
    func address() async throws -> URL?
    /// Handles one message: only when it has returned the node is told so, and the next one comes.
    func handle(_ message: Any) async
    /// Loads the state; `why` is nil on a first connection. Called again if it throws.
    func load(why: String?) async throws
    /// Joins its channels through your web API.
    func join() async
    func receipt(_ receipt: [String: Any])
    func state(_ state: ImClient.State)
    /// The text that was saved last, for this user and device alone; empty: there is none.
    var position: String { get set }
}

@MainActor
final class ImClient {
    enum State { case connecting, open, waiting, closed, kicked, failed }
    private struct Entry { let p: String; var message: Any?; var receipt: [String: Any]? }
    private struct Load { let why: String?; let p: String; let spread: Double }
    private struct Hint { let after: Double; let spread: Double? }

    private static let fatal: Set<Int> = [1002, 1007, 1008, 1009, 4003]
    private unowned let app: ImApplication
    private(set) var state = State.closed
    /// The connection there is; the one before, heard until another has taken over; what waits for its time.
    private var line: Line?, former: Line?, timer: Task<Void, Never>?
    /// Counts attempts, connections and pauses: what belongs to another one is void.
    private var turn = 0
    private var failures = 0, notBefore = 0.0, lostAt = -Double.infinity, keep = 0.0, isPaused = false
    /// The stream: which connection it goes on from, up to where all is handled, what the node was told.
    private var c = "", since = "", acknowledged = "", acknowledgedAt = -1e9, isLoaded = false
    private var acknowledging: Task<Void, Never>?
    private var overlap: Set<String> = [], waiting: [Entry] = [], current: Entry?, load: Load?, isBusy = false
    /// Counts what was thrown away: a handler that returns to another one has come too late.
    private var scope = 0

    init(_ app: ImApplication) { self.app = app }

    func connect() { if isEnded { failures = 0; notBefore = 0; attempt() } }
    /// The user signs out (6).
    func close() { end(.closed, 1000) }
    /// The app goes to the background.
    func away() { if !isEnded { acknowledge(); former?.leave(3001); former = nil; letGo(); enter(.waiting) } }
    func back() { wake() }
    /// The network is another one: NWPathMonitor.
    func doubt() { if state == .connecting { attempt() } else { if state == .waiting { failures = 0 }; wake() } }

    private var isEnded: Bool { state == .closed || state == .kicked || state == .failed }
    private var now: Double { ProcessInfo.processInfo.systemUptime * 1000 }
    private func enter(_ next: State) { state = next; app.state(next) }

    private func later(_ ms: Double, _ call: @escaping @MainActor () -> Void) -> Task<Void, Never> {
        Task { @MainActor in
            try? await Task.sleep(nanoseconds: UInt64(max(0, ms) * 1e6))
            if !Task.isCancelled { call() }
        }
    }

    // MARK: Attempts

    private func attempt() {
        letGo()
        let own = turn
        enter(.connecting)
        if !isLoaded && c.isEmpty {
            isLoaded = true
            let stored = app.position.split(separator: " ").map(String.init)
            if stored.count == 2 { c = stored[0]; since = stored[1]; acknowledged = since }
        }
        timer = later(10_000) { [weak self] in self?.pause(nil) }
        Task { @MainActor in
            do {
                let address = try await app.address()
                if own != turn { return }
                if let address { open(address) } else { end(.failed, 1000) }
            } catch {
                if own == turn { pause(nil) }
            }
        }
    }

    private func open(_ address: URL) {
        timer?.cancel()
        timer = later(10_000) { [weak self] in self?.pause(nil) }
        overlap = Set(([current].compactMap { $0 } + waiting).filter { $0.message != nil || $0.receipt != nil }.map(\.p))
        acknowledged = since
        let from = c.isEmpty || since.isEmpty ? "" : "&since=\(escaped(since))&c=\(escaped(c))"
        guard let url = URL(string: address.absoluteString + from) else { return pause(nil) }
        line = Line(self, url)
    }

    private func escaped(_ text: String) -> String {
        text.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? text
    }

    private func pause(_ hint: Hint?) {
        if let since = line?.goodSince, now - since >= 5_000 { failures = 0; lostAt = now }
        letGo()
        // Several attempts must fit into the time for which a node waits; and within 10 s others take over from a node that died.
        let most = min(keep > 0 ? keep / 4 : 30_000, now - lostAt < 16_000 ? 4_000 : 30_000)
        let longest = min(30_000, most, 2_500 * pow(2, Double(min(failures, 9))))
        failures += 1
        var ms = Double.random(in: 0...1) * longest
        if let hint {
            ms = hint.after + Double.random(in: 0...1) * (hint.spread ?? longest)
            notBefore = now + ms
        }
        rest(max(50, ms, notBefore - now))
    }

    private func rest(_ ms: Double) {
        isPaused = true
        enter(.waiting)
        timer = later(ms) { [weak self] in self?.attempt() }
    }

    /// Something speaks for another attempt, or against the connection. A pause that was asked for is kept (8).
    private func wake() {
        let left = notBefore - now
        if state == .open { line?.suspect() }
        else if state == .waiting && left <= 0 { attempt() }
        else if state == .waiting && !isPaused { rest(left) }
    }

    private func letGo(_ code: Int = 3001) {
        turn += 1
        timer?.cancel()
        isPaused = false
        line?.leave(code)
        line = nil
    }

    private func end(_ next: State, _ code: Int) {
        if isEnded { return }
        acknowledge()
        former?.leave(code)
        former = nil
        letGo(code)
        keep = 0
        begin()
        isLoaded = false
        enter(next)
    }

    /// One connection, or the attempt at one. URLSession answers pings.
    @MainActor
    private final class Line: NSObject, URLSessionWebSocketDelegate {
        private weak var client: ImClient?
        private var session: URLSession!, task: URLSessionWebSocketTask!
        private var isResumable = false, isGone = false, heardAt = 0.0, probe: Task<Void, Never>?
        private(set) var isGreeted = false, goodSince: Double?

        init(_ client: ImClient, _ url: URL) {
            super.init()
            self.client = client
            session = URLSession(configuration: .ephemeral, delegate: self, delegateQueue: .main)
            task = session.webSocketTask(with: url, protocols: ["imcore.1"])
            task.maximumMessageSize = 2 << 20
            task.resume()
        }

        nonisolated func urlSession(_: URLSession, webSocketTask: URLSessionWebSocketTask, didOpenWithProtocol name: String?) {
            Task { @MainActor in opened(name == "imcore.1") }
        }

        private func opened(_ isResumable: Bool) {
            guard !isGone, let client else { return }
            self.isResumable = isResumable
            heardAt = client.now
            if !isResumable { live(); client.plain() }
            Task { @MainActor in await listen() }
        }

        nonisolated func urlSession(_: URLSession, webSocketTask: URLSessionWebSocketTask, didCloseWith code: URLSessionWebSocketTask.CloseCode, reason: Data?) {
            Task { @MainActor in ended(code.rawValue, String(decoding: reason ?? Data(), as: UTF8.self)) }
        }

        /// Comes behind a close as well, which counts then.
        nonisolated func urlSession(_: URLSession, task: URLSessionTask, didCompleteWithError error: Error?) {
            Task { @MainActor in ended(1006, "") }
        }

        private func listen() async {
            while !isGone {
                guard let frame = try? await task.receive() else { return }
                if case .string(let text) = frame, !isGone { heard(text) }
            }
        }

        func say(_ word: [String: Any]) {
            guard !isGone, let data = try? JSONSerialization.data(withJSONObject: word) else { return }
            task.send(.string(String(decoding: data, as: UTF8.self))) { _ in }
        }

        func leave(_ code: Int) {
            if isGone { return }
            isGone = true
            probe?.cancel()
            task.cancel(with: URLSessionWebSocketTask.CloseCode(rawValue: code) ?? .goingAway, reason: nil)
            session.finishTasksAndInvalidate()
        }

        private func live() {
            guard let client else { return }
            client.timer?.cancel()
            goodSince = client.now
            client.former?.leave(3001)
            client.former = nil
            client.enter(.open)
        }

        private func heard(_ text: String) {
            guard let client else { return }
            heardAt = client.now
            probe?.cancel()
            probe = nil
            let value = try? JSONSerialization.jsonObject(with: Data(text.utf8), options: .fragmentsAllowed)
            if !isResumable { return client.add(Entry(p: "", message: value ?? text)) }
            guard let frame = value as? [String: Any] else { return }
            if let hello = frame["hello"] as? [String: Any], self === client.line { greeted(hello) }
            else if frame["p"] is String, isGreeted || self === client.former { client.took(frame, isFormer: self === client.former) }
        }

        private func greeted(_ hello: [String: Any]) {
            guard let client else { return }
            client.keep = (hello["keep"] as? Double ?? 0) * 1000
            if !isGreeted { isGreeted = true; live(); watch() }
            client.c = hello["c"] as? String ?? ""
            // (2) and (3)
            if hello["resumed"] as? Bool != true {
                client.resync(hello["why"] as? String, hello["p"] as? String ?? "", hello["spread"] as? Double ?? 0)
            }
            if hello["channels"] as? Bool != true { Task { await client.app.join() } }
        }

        /// 40 s without a frame are a doubt as well (5).
        private func watch() {
            _ = client?.later(5_000) { [weak self] in
                guard let self, let client = self.client, !self.isGone, self === client.line else { return }
                if client.now - self.heardAt >= 40_000 { self.suspect() }
                self.watch()
            }
        }

        func suspect() {
            guard !isGone, probe == nil, let client else { return }
            if !isResumable { return client.pause(nil) }
            let isSilent = client.now - heardAt >= 40_000
            say(["q": 1])
            probe = client.later(3_000) { [weak self, weak client] in
                guard let self, let client else { return }
                // The next connection is opened before this one is let go. After a silence with a pause: all clients may have heard nothing.
                client.former?.leave(3001)
                client.former = self
                client.line = nil
                if isSilent { client.pause(nil) } else { client.attempt() }
            }
        }

        private func ended(_ code: Int, _ reason: String) {
            guard !isGone, let client, self === client.line || self === client.former else { return }
            isGone = true
            probe?.cancel()
            session.finishTasksAndInvalidate()
            let wasFormer = self === client.former
            if wasFormer { client.former = nil }
            if code == 4001 { client.end(.kicked, 1000) }
            else if wasFormer { return }
            else if ImClient.fatal.contains(code) { client.end(.failed, 1000) }
            else {
                if code == 4002 { client.begin() }  // (7)
                client.pause(client.hint(code, reason))
            }
        }
    }

    private func hint(_ code: Int, _ reason: String) -> Hint? {
        if let asked = try? JSONSerialization.jsonObject(with: Data(reason.utf8)) as? [String: Any],
           let after = (asked["after"] ?? 0.0) as? Double, let spread = (asked["spread"] ?? 0.0) as? Double, after >= 0, spread >= 0 {
            return Hint(after: min(after, 3_600_000), spread: min(spread, 3_600_000))
        }
        switch code {
        case 1001, 1012: return Hint(after: 1_000, spread: nil)
        case 1013: return Hint(after: 4_000, spread: 4_000)
        case 4302: return Hint(after: 0, spread: 0)
        case 4002: return Hint(after: 0, spread: 1_000)
        default: return nil
        }
    }

    // MARK: The stream (4)

    /// A node that cannot resume: whatever came before may be missing.
    private func plain() {
        if !c.isEmpty { begin() }
        resync(failures > 0 ? "epoch" : nil, "", 0)
        Task { await app.join() }
    }

    private func took(_ frame: [String: Any], isFormer: Bool) {
        let entry = Entry(p: frame["p"] as? String ?? "", message: frame["m"] ?? frame["t"], receipt: frame["r"] as? [String: Any])
        if entry.message != nil || entry.receipt != nil {
            // What the former connection still brings comes again on the next one.
            if isFormer { overlap.insert(entry.p) } else if overlap.remove(entry.p) != nil { return }
        }
        add(entry)
    }

    private func add(_ entry: Entry) {
        waiting.append(entry)
        if waiting.count > 1_000 { resync("too_much", entry.p, 0) } else { work() }
    }

    /// Takes the node's position at once, and has the state loaded in place of all that waits.
    private func resync(_ why: String?, _ p: String, _ spread: Double) {
        clear()
        if !p.isEmpty { since = p }
        acknowledged = since
        load = Load(why: why, p: p, spread: spread)
        work()
    }

    private func clear() { scope += 1; waiting = []; overlap = [] }
    private func begin() { clear(); load = nil; c = ""; since = ""; acknowledged = ""; app.position = "" }

    /// One call of the application at a time.
    private func work() {
        if isBusy { return }
        isBusy = true
        Task { @MainActor in
            while load != nil || !waiting.isEmpty {
                let own = scope
                if let due = load {
                    if await carryOut(due, own) { load = nil; handled(due.p) }
                } else {
                    let entry = waiting.removeFirst()
                    current = entry
                    if let receipt = entry.receipt { app.receipt(receipt) }
                    if let message = entry.message { await app.handle(message) }
                    current = nil
                    if own == scope { handled(entry.p) }
                }
            }
            isBusy = false
        }
    }

    private func carryOut(_ due: Load, _ own: Int) async -> Bool {
        var wait = Double.random(in: 0...1) * due.spread
        for tries in 0..<Int.max {
            await later(wait) {}.value
            if own != scope { return false }
            do {
                try await app.load(why: due.why)
                break
            } catch {
                wait = max(50, Double.random(in: 0...1) * min(30_000, 2_500 * pow(2, Double(min(tries, 9)))))
            }
        }
        return own == scope
    }

    private func handled(_ p: String) {
        if c.isEmpty || p.isEmpty { return }
        since = p
        app.position = "\(c) \(p)"
        let wait = acknowledgedAt + 1_000 - now
        if wait <= 0 { acknowledge() } else if acknowledging == nil { acknowledging = later(wait) { [weak self] in self?.acknowledge() } }
    }

    /// At most once a second, and at once before the app goes. A load that is under way has handled nothing yet.
    private func acknowledge() {
        acknowledging?.cancel()
        acknowledging = nil
        if load != nil || since == acknowledged || line?.isGreeted != true { return }
        acknowledged = since
        acknowledgedAt = now
        line?.say(["a": since])
    }
}
