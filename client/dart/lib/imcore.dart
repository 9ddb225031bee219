/// A client of imcore for Dart and Flutter (not for the web): one push connection that stays up and misses nothing.
///
/// What it does is docs/protocol.md, "imcore.1"; the numbers in brackets are the rules there. README.md shows how it is used.
library imcore;

import 'dart:async';
import 'dart:collection';
import 'dart:convert';
import 'dart:io';
import 'dart:math';

/// Where a client stands. The last three are ends; only [ImClient.connect] leads on.
enum ImState { connecting, open, waiting, closed, kicked, failed }

/// What became of a message that asked for a receipt: `sent`, `acknowledged`, `offline`, `expired`, or what nodes of later say.
class ImReceipt {
  ImReceipt(this.to, this.status, this.id, this.content);

  final String? to;
  final String? status;
  final String? id;
  final String? content;
}

/// Where a client keeps its position, an opaque text, from one run of the app to the next: one place for each user and device.
abstract interface class ImPosition {
  /// What was saved last; null or empty: nothing.
  Future<String?> load();

  /// Saves it; empty: there is nothing to go on from any more.
  Future<void> save(String position);
}

/// A position in a file, which need not exist.
class FilePosition implements ImPosition {
  FilePosition(this.file);

  final File file;

  @override
  Future<String?> load() async => await file.exists() ? await file.readAsString() : null;

  /// One that was written half is no position: another file takes its place whole.
  @override
  Future<void> save(String position) async {
    final next = File('${file.path}.new');
    await next.writeAsString(position, flush: true);
    await next.rename(file.path);
  }
}

/// The web API gives no address now, and may say for how long it wants to be left alone.
class ImRefused implements Exception {
  ImRefused(this.status, [this.after]);

  final int status;
  final Duration? after;

  @override
  String toString() => 'the web API answers with status $status';
}

/// What the application is. Its calls come one after the other.
class ImOptions {
  ImOptions({
    required this.address,
    this.onMessage,
    this.onResync,
    this.onRejoin,
    this.onReceipt,
    this.onRoster,
    this.onState,
    this.onError,
    this.position,
    this.resume = true,
    this.speed = 1,
  });

  /// Asks your web API for an address with a fresh token, for each attempt; null ends it all. [postForAddress] is one.
  final Future<String?> Function() address;

  /// Handles one message; awaited, and only then the node is told and the next one comes. One that fails is passed over.
  final FutureOr<void> Function(Object? message, String position)? onMessage;

  /// Loads the state: at first (`why` is null), and whenever something may be missing. Messages wait. Called again if it fails.
  final FutureOr<void> Function(String? why, String position)? onResync;

  /// Joins the channels of this client through your web API. Called again if it fails.
  final FutureOr<void> Function()? onRejoin;
  final void Function(ImReceipt receipt)? onReceipt;

  /// Who is in a channel, or what is new in it: docs/protocol.md, "Rosters".
  final void Function(Map<String, Object?> roster)? onRoster;
  final void Function(ImState state)? onState;

  /// Something went wrong, and the client deals with it: for logs.
  final void Function(Object error)? onError;
  final ImPosition? position;

  /// Whether nodes are asked for connections that can be resumed.
  final bool resume;

  /// How many times faster than time its clock runs: for tests.
  final double speed;
}

/// Asks by POST for `{"url": ".."}`. 401 and a null end it all; any other failure is tried again, after its `Retry-After`.
Future<String?> Function() postForAddress(Uri api, {Map<String, String> headers = const {}, HttpClient? client}) {
  final http = client ?? HttpClient();
  return () async {
    final request = await http.postUrl(api);
    headers.forEach(request.headers.set);
    final answer = await request.close();
    final body = await utf8.decodeStream(answer);
    if (answer.statusCode == 401) return null;
    if (answer.statusCode >= 300) {
      final seconds = int.tryParse(answer.headers.value('retry-after') ?? '');
      throw ImRefused(answer.statusCode, seconds == null ? null : Duration(seconds: seconds));
    }
    final decoded = jsonDecode(body);
    return decoded == null ? null : (decoded as Map<String, Object?>)['url'] as String?;
  };
}

const _goodbye = 1000, _backSoon = 3001, _kicked = 4001, _superseded = 4002;
const _fatal = {1002, 1007, 1008, 1009, 4003};
const _longestPause = 30000.0, _firstPause = 2500.0, _longestHint = 3600000.0;

class _Hint {
  _Hint(this.after, [this.spread]);

  /// What a close asks for: in its reason, or by its code.
  static _Hint? of(int code, String reason) {
    try {
      final asked = jsonDecode(reason);
      if (asked is Map<String, Object?>) {
        final after = asked.containsKey('after') ? asked['after'] : 0;
        final spread = asked.containsKey('spread') ? asked['spread'] : 0;
        if (after is num && spread is num && after >= 0 && spread >= 0) {
          return _Hint(min(after.toDouble(), _longestHint), min(spread.toDouble(), _longestHint));
        }
      }
    } on FormatException {
      // It is a sentence.
    }
    return switch (code) {
      1001 || 1012 => _Hint(1000),
      1013 => _Hint(4000, 4000),
      4302 => _Hint(0, 0),
      _superseded => _Hint(0, 1000),
      _ => null,
    };
  }

  final double after;

  /// Null: that of the back-off.
  final double? spread;
}

/// One user's push connection.
class ImClient {
  ImClient(this._options) {
    _stream = _Stream(_options, this);
  }

  final ImOptions _options;
  late final _Stream _stream;
  final _random = Random();
  final _clock = Stopwatch()..start();

  /// The connection or attempt there is, and the one before, which is heard until another has taken over.
  _Line? _line, _former;
  Timer? _timer;

  /// Counts attempts, connections and pauses: what belongs to another one is void.
  int _turn = 0;
  int _failures = 0;
  double _lostAt = double.negativeInfinity, _notBefore = 0, _keep = 0;
  bool _hasBeenOpen = false, _isPaused = false, _isJoinDue = false, _isJoining = false;

  ImState get state => _state;
  ImState _state = ImState.closed;

  /// Connects, and stays connected until [close], a kick or a fatal close code. Again: nothing.
  void connect() {
    if (!_isEnded) return;
    _failures = 0;
    _notBefore = 0;
    _attempt();
  }

  /// Disconnects for good, and forgets the position: the user signs out (6).
  void close() => _end(ImState.closed);

  /// The app is put away: says what was handled, and that it comes back. From `AppLifecycleState.paused`.
  void away() {
    if (_isEnded) return;
    _stream.flush();
    _dropFormer(_backSoon);
    _letGo();
    _enter(ImState.waiting);
  }

  /// The app is in front again: `AppLifecycleState.resumed`.
  void back() => _wake();

  /// The network is back, or another one.
  void doubt() {
    // What was sent before the network came back is lost, and its answer never comes.
    if (_state == ImState.connecting) {
      _attempt();
    } else {
      if (_state == ImState.waiting) _failures = 0;
      _wake();
    }
  }

  bool get _isEnded => const {ImState.closed, ImState.kicked, ImState.failed}.contains(_state);

  double get _now => _clock.elapsedMicroseconds / 1000 * _options.speed;

  Timer _later(double ms, void Function() call) => Timer(Duration(microseconds: (ms * 1000 / _options.speed).round()), call);

  void _enter(ImState state) {
    _state = state;
    _options.onState?.call(state);
  }

  // --- One attempt ------------------------------------------------------------------------------

  Future<void> _attempt() async {
    _letGo();
    final own = _turn;
    _enter(ImState.connecting);
    await _stream.takeOver();
    if (own != _turn) return;
    _timer = _later(10000, () => _fail(TimeoutException('no address within 10 s')));
    try {
      final address = await _options.address();
      if (own != _turn) return;
      if (address == null) return _end(ImState.failed);
      _timer?.cancel();
      _timer = _later(10000, () => _fail(TimeoutException('no connection within 10 s')));
      final line = _line = _Line(this);
      line.open(_options.resume ? _stream.addressed(address) : address, _options.resume);
    } catch (error) {
      if (own != _turn) return;
      final after = error is ImRefused ? error.after : null;
      _fail(error, after == null ? null : _Hint(min(after.inMilliseconds.toDouble(), _longestHint)));
    }
  }

  /// Messages come from now on.
  void _opened(_Line line) {
    _timer?.cancel();
    line.goodSince = _now;
    _dropFormer(_backSoon);
    _hasBeenOpen = true;
    _enter(ImState.open);
  }

  void _heard(_Line line, Object? data) {
    line.heardAt = _now;
    line.probe?.cancel();
    line.probe = null;
    try {
      if (data is! String) throw const FormatException('it is binary');
      if (!line.isResumable) return _stream.told(data);
      final frame = jsonDecode(data);
      if (frame is! Map<String, Object?>) return;
      final hello = frame['hello'];
      if (hello is Map<String, Object?>) {
        if (line == _line) _greeted(line, hello);
      } else if (frame['p'] is String && (line.isGreeted || line == _former)) {
        _stream.took(frame, line == _former);
      }
    } on FormatException catch (error) {
      _options.onError?.call(error);
    }
  }

  void _greeted(_Line line, Map<String, Object?> hello) {
    _keep = (hello['keep'] as num? ?? 0).toDouble() * 1000;
    if (!line.isGreeted) {
      line.isGreeted = true;
      _opened(line);
      line.watch();
    }
    _stream.greeted(hello);
    if (hello['channels'] != true) _rejoin();
  }

  void _plain(_Line line) {
    final isReconnect = _hasBeenOpen;
    _opened(line);
    _stream.openedPlain(isReconnect);
    _rejoin();
  }

  /// Has the channels joined, until that works or the connection ends.
  Future<void> _rejoin() async {
    _isJoinDue = true;
    if (_isJoining || _options.onRejoin == null) return;
    _isJoining = true;
    for (var tries = 0; _isJoinDue && _state == ImState.open; tries += 1) {
      _isJoinDue = false;
      try {
        await _options.onRejoin!();
      } catch (error) {
        _isJoinDue = true;
        _options.onError?.call(error);
        await _pause(_random.nextDouble() * _step(tries));
      }
    }
    _isJoining = false;
  }

  Future<void> _pause(double ms) {
    final over = Completer<void>();
    _later(ms, over.complete);
    return over.future;
  }

  // --- Ends and pauses --------------------------------------------------------------------------

  void _ended(_Line line, int code, String reason) {
    final wasFormer = line == _former;
    if (!wasFormer && line != _line) return;
    if (wasFormer) _former = null;
    // Whoever is kicked is so on every connection; the next one may not have been there yet.
    if (code == _kicked) return _end(ImState.kicked);
    if (wasFormer) return;
    if (_fatal.contains(code)) return _end(ImState.failed);
    // Somebody else goes on from where this one was (7).
    if (code == _superseded) _stream.begin();
    _wait(_Hint.of(code, reason));
  }

  /// The next connection is opened before this one is let go. After a silence with a pause: all clients may have heard nothing.
  void _dead(_Line line, bool isSilence) {
    if (line.isGreeted) {
      _dropFormer(_backSoon);
      _former = line;
      _line = null;
    }
    if (isSilence) {
      _wait(null);
    } else {
      _attempt();
    }
  }

  void _fail(Object error, [_Hint? hint]) {
    _options.onError?.call(error);
    _wait(hint);
  }

  double _step(int failures) => min(_longestPause, _firstPause * pow(2, min(failures, 9)));

  void _wait(_Hint? hint) {
    final since = _line?.goodSince;
    if (since != null && _now - since >= 5000) {
      _failures = 0;
      _lostAt = _now;
    }
    _letGo();
    // Several attempts must fit into the time for which a node waits.
    var longest = _keep > 0 ? min(_step(_failures), _keep / 4) : _step(_failures);
    // And within 10 s others take over from a node that died.
    if (_now - _lostAt < 16000) longest = min(longest, 4000);
    _failures += 1;
    var ms = _random.nextDouble() * longest;
    if (hint != null) {
      ms = hint.after + _random.nextDouble() * (hint.spread ?? longest);
      _notBefore = _now + ms;
    }
    _rest(max(50, max(ms, _notBefore - _now)));
  }

  void _rest(double ms) {
    _isPaused = true;
    _timer = _later(ms, _attempt);
    _enter(ImState.waiting);
  }

  /// Something speaks for another attempt now, or against the connection. A pause that was asked for is kept (8).
  void _wake() {
    final left = _notBefore - _now;
    if (_state == ImState.open) {
      _line?.suspect();
    } else if (_state == ImState.waiting && left <= 0) {
      _attempt();
    } else if (_state == ImState.waiting && !_isPaused) {
      _rest(left);
    }
  }

  void _end(ImState state) {
    if (_isEnded) return;
    _stream.flush();
    _dropFormer(_goodbye);
    _letGo(_goodbye);
    _keep = 0;
    _stream.stop();
    _enter(state);
  }

  void _letGo([int code = _backSoon]) {
    _turn += 1;
    _timer?.cancel();
    _isPaused = false;
    _line?.leave(code);
    _line = null;
  }

  void _dropFormer(int code) {
    _former?.leave(code);
    _former = null;
  }

  void _say(Map<String, Object> word) {
    if (_line?.isGreeted ?? false) _line!.say(word);
  }
}

/// One connection, or the attempt at one.
class _Line {
  _Line(this._client);

  final ImClient _client;
  WebSocket? _socket;
  bool isResumable = false, isGreeted = false;
  bool _isGone = false;
  double heardAt = 0;
  double? goodSince;

  /// The question that waits for an answer, which is whatever is heard next.
  Timer? probe;
  int _goodbyeCode = _backSoon;

  Future<void> open(String address, bool resume) async {
    try {
      final socket = _socket = await WebSocket.connect(address, protocols: resume ? ['imcore.1'] : null, compression: CompressionOptions.compressionOff);
      if (_isGone) {
        unawaited(socket.close(_goodbyeCode));
        return;
      }
      heardAt = _client._now;
      isResumable = socket.protocol == 'imcore.1';
      if (!isResumable) _client._plain(this);
      socket.listen(
        (data) {
          if (!_isGone) _client._heard(this, data);
        },
        onError: (Object error) {},
        onDone: () => _over(socket.closeCode ?? 1006, socket.closeReason ?? ''),
      );
    } catch (error) {
      if (!_isGone) _client._options.onError?.call(error);
      _over(1006, '');
    }
  }

  void _over(int code, String reason) {
    if (_isGone) return;
    _isGone = true;
    probe?.cancel();
    _client._ended(this, code, reason);
  }

  void say(Map<String, Object> word) {
    if (!_isGone) _socket?.add(jsonEncode(word));
  }

  void leave(int code) {
    if (_isGone) return;
    _isGone = true;
    probe?.cancel();
    _goodbyeCode = code;
    final closing = _socket?.close(code);
    if (closing != null) unawaited(closing);
  }

  /// 40 s without a frame are a doubt (5).
  void watch() {
    _client._later(5000, () {
      if (_isGone || this != _client._line) return;
      if (_client._now - heardAt >= 40000) suspect();
      watch();
    });
  }

  void suspect() {
    if (_isGone || probe != null) return;
    final isSilence = _client._now - heardAt >= 40000;
    if (!isResumable) return _client._dead(this, isSilence);
    say({'q': 1});
    probe = _client._later(3000, () {
      probe = null;
      if (!_isGone && this == _client._line) _client._dead(this, isSilence);
    });
  }
}

class _Entry {
  _Entry(this.p, {this.message, this.receipt, this.isMessage = false});

  final String p;
  final Object? message;
  final ImReceipt? receipt;
  final bool isMessage;

  bool get isPosition => !isMessage && receipt == null;
}

class _Load {
  _Load(this.why, this.p, this.spread);

  final String? why;
  final String p;
  final double spread;
}

/// Which connection a client goes on from, and where; what waits for the application. Each message is handed on once and in order, its
/// position stored after it was handled, and the node told after that (4).
class _Stream {
  _Stream(this._options, this._client);

  static const _mostWaiting = 1000;

  final ImOptions _options;
  final ImClient _client;
  String _c = '', _since = '', _received = '', _stored = '', _acknowledged = '';
  double _acknowledgedAt = double.negativeInfinity;
  Timer? _acknowledging;
  bool _isLoaded = false, _isRunning = false;
  Future<void> _saving = Future.value();

  /// What came behind the position that the next connection goes on from: it will come again there.
  final _overlap = <String>{};
  final _waiting = Queue<_Entry>();
  _Entry? _current;
  _Load? _load;

  /// Counts what was thrown away: a handler that returns to another one has come too late.
  int _scope = 0;

  Future<void> takeOver() async {
    if (_isLoaded || _c != '' || _options.position == null) return;
    _isLoaded = true;
    try {
      await _saving;
      final parts = (await _options.position!.load().timeout(const Duration(seconds: 3)) ?? '').split(' ');
      if (_c == '' && parts.length == 2) {
        _c = parts[0];
        _since = _received = _stored = _acknowledged = parts[1];
      }
    } catch (error) {
      _options.onError?.call(error);
    }
  }

  String addressed(String address) {
    _overlap.clear();
    for (final entry in [if (_current != null) _current!, ..._waiting]) {
      if (!entry.isPosition) _overlap.add(entry.p);
    }
    _acknowledged = _since;
    if (_c == '' || _since == '') return address;
    final joint = address.contains('?') ? '&' : '?';
    return '$address${joint}since=${Uri.encodeQueryComponent(_since)}&c=${Uri.encodeQueryComponent(_c)}';
  }

  void stop() {
    begin();
    _isLoaded = false;
  }

  void begin() {
    _void();
    _load = null;
    _c = _since = _received = _stored = _acknowledged = '';
    _save('', () {});
  }

  void _void() {
    _scope += 1;
    _waiting.clear();
    _overlap.clear();
  }

  void openedPlain(bool isReconnect) {
    if (_c != '') begin();
    if (_options.onResync != null) _resync(isReconnect ? 'epoch' : null, '', 0);
  }

  void told(String text) {
    Object? message = text;
    try {
      message = jsonDecode(text);
    } on FormatException {
      // It is a text.
    }
    _add(_Entry('', message: message, isMessage: true));
  }

  void greeted(Map<String, Object?> hello) {
    final isRenamed = _c != hello['c'];
    _c = hello['c'] as String? ?? '';
    if (hello['resumed'] != true) {
      return _resync(hello['why'] as String?, hello['p'] as String? ?? '', (hello['spread'] as num? ?? 0).toDouble());
    }
    if (isRenamed && _stored != '') _handled(_since);
    _acknowledge();
  }

  void took(Map<String, Object?> frame, bool isFormer) {
    final p = frame['p']! as String;
    final told = frame['r'];
    final receipt = told is Map<String, Object?>
        ? ImReceipt(told['to'] as String?, told['status'] as String?, told['id'] as String?, told['content'] as String?)
        : null;
    final isMessage = frame.containsKey('m') || frame.containsKey('t');
    final entry = _Entry(p, message: frame['m'] ?? frame['t'], receipt: receipt, isMessage: isMessage);
    if (!entry.isPosition) {
      if (isFormer) {
        _overlap.add(p);
      } else if (_overlap.remove(p)) {
        return;
      }
    }
    final roster = frame['o'];
    if (!isFormer && roster is Map<String, Object?>) _options.onRoster?.call(roster);
    _received = p;
    _add(entry);
  }

  void _add(_Entry entry) {
    _waiting.add(entry);
    if (_waiting.length > _mostWaiting) {
      _resync('too_much', _received, 0);
    } else {
      unawaited(_run());
    }
  }

  /// Takes the node's position at once, and has the state loaded in place of all that waits. It is stored when that is done.
  void _resync(String? why, String p, double spread) {
    _void();
    _stored = '';
    if (p != '') _since = _received = p;
    _load = _Load(why, p, spread);
    unawaited(_run());
  }

  /// One call of the application at a time.
  Future<void> _run() async {
    if (_isRunning) return;
    _isRunning = true;
    while (_load != null || _waiting.isNotEmpty) {
      final load = _load;
      if (load != null) {
        await _carryOut(load);
      } else {
        await _handOn(_waiting.removeFirst());
      }
    }
    _isRunning = false;
  }

  Future<void> _handOn(_Entry entry) async {
    final own = _scope;
    _current = entry;
    try {
      if (entry.receipt != null) _options.onReceipt?.call(entry.receipt!);
      if (entry.isMessage) await _options.onMessage?.call(entry.message, _text(entry.p));
    } catch (error) {
      _options.onError?.call(error);
    }
    _current = null;
    if (own == _scope) _done(entry.p);
  }

  Future<void> _carryOut(_Load load) async {
    final own = _scope;
    var wait = _options.onResync == null ? 0.0 : _client._random.nextDouble() * load.spread;
    for (var tries = 0; _options.onResync != null; tries += 1) {
      if (wait > 0) await _client._pause(wait);
      if (own != _scope) return;
      try {
        await _options.onResync!(load.why, _text(load.p));
        break;
      } catch (error) {
        _options.onError?.call(error);
        wait = max(50, _client._random.nextDouble() * _client._step(tries));
      }
    }
    if (own != _scope) return;
    _load = null;
    _done(load.p);
  }

  void _done(String p) {
    if (_c == '' || p == '') return;
    _since = p;
    _handled(p);
  }

  void _handled(String p) {
    final c = _c;
    _save(_text(p), () {
      if (c != _c) return;
      _stored = p;
      _acknowledge();
    });
  }

  String _text(String p) => _c != '' && p != '' ? '$_c $p' : '';

  void _save(String position, void Function() saved) {
    if (_options.position == null) return saved();
    _saving = _saving.then((_) => _options.position!.save(position)).catchError((Object error) => _options.onError?.call(error)).then((_) => saved());
  }

  /// At most once a second.
  void _acknowledge() {
    if (_acknowledging != null) return;
    final wait = _acknowledgedAt + 1000 - _client._now;
    if (wait <= 0) {
      flush();
    } else {
      _acknowledging = _client._later(wait, flush);
    }
  }

  /// The app may be gone in a moment: what was handled is said at once.
  void flush() {
    _acknowledging?.cancel();
    _acknowledging = null;
    if (_stored == '' || _stored == _acknowledged) return;
    _acknowledged = _stored;
    _acknowledgedAt = _client._now;
    _client._say({'a': _stored});
  }
}
