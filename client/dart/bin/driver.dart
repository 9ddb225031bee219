// The driver of the Dart client: `node ../conformance/run.js -- dart run bin/driver.dart`. ../../conformance/README.md says what a driver is.

import 'dart:async';
import 'dart:convert';
import 'dart:io';

import 'package:imcore/imcore.dart';

const speed = 5.0;
final held = <String>{};
var release = Completer<void>();

void tell(Map<String, Object?> event) => stdout.writeln(jsonEncode(event));

Future<void> mayGoOn(String what) => held.contains(what) ? release.future : Future.value();

void letGo() {
  held.clear();
  release.complete();
  release = Completer<void>();
}

ImClient start(Map<String, Object?> command) => ImClient(ImOptions(
      address: postForAddress(Uri.parse(command['address']! as String)),
      position: FilePosition(File(command['store']! as String)),
      speed: speed,
      onMessage: (message, _) {
        tell({'is': 'message', 'value': message});
        return mayGoOn('message');
      },
      onResync: (why, _) {
        tell({'is': 'load', 'why': why});
        return mayGoOn('load');
      },
      onRejoin: () => tell({'is': 'join'}),
      onReceipt: (receipt) => tell({'is': 'receipt', 'to': receipt.to, 'status': receipt.status, 'id': receipt.id}),
      onState: (state) {
        if (const {ImState.closed, ImState.kicked, ImState.failed}.contains(state)) tell({'is': 'end', 'why': state.name});
      },
      onError: stderr.writeln,
    ));

Future<void> main() async {
  late ImClient client;
  tell({'is': 'ready', 'speed': speed});
  await for (final line in stdin.transform(utf8.decoder).transform(const LineSplitter())) {
    final command = jsonDecode(line) as Map<String, Object?>;
    switch (command['do']) {
      case 'start':
        client = start(command)..connect();
      case 'hold':
        held.add(command['what']! as String);
      case 'release':
        letGo();
      case 'doubt':
        client.doubt();
      case 'away':
        client.away();
      case 'back':
        client.back();
      case 'sign out':
        client.close();
      case 'sign in':
        client.connect();
      case 'stop':
        letGo();
        client.close();
    }
    tell({'is': 'done'});
  }
  exit(0);
}
