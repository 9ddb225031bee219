"""Autobahn's cases for WebSocket servers, driven by kosoku, against `examples/echo`: acceptor and reactors of the server.

`autobahn.json` holds what is expected: the result of every case that is not a plain OK. Cases that it does not name must
be OK, groups 12 and 13 (compression, which is not offered) UNIMPLEMENTED and closed cleanly."""

import json
import subprocess
import tempfile
from pathlib import Path

from lab import ROOT, Results, answers, eventually, free_ports, python_tools

HERE = Path(__file__).parent
KOSOKU = "kosoku==0.1.0"


def main():
    results = Results("autobahn")
    python = python_tools("autobahn", KOSOKU)
    [port] = free_ports(1)
    echo = subprocess.Popen([ROOT / "target/debug/examples/echo", f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL)
    try:
        eventually("echo", lambda: answers(port))
        with tempfile.TemporaryDirectory() as reports:
            url = f"ws://127.0.0.1:{port}/?token=any"
            # Its exit code tells whether anything failed; what it reports tells more.
            subprocess.run([python.parent / "kosoku", url, "-p", "4", "-o", reports], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                           timeout=600, check=False)
            [cases] = json.loads((Path(reports) / "index.json").read_text()).values()
    finally:
        echo.kill()
        echo.wait()
    expected = json.loads((HERE / "autobahn.json").read_text())
    results.expect("number of cases", len(cases), expected["cases"])
    for case, seen in cases.items():
        plain = "UNIMPLEMENTED" if case.split(".")[0] in ("12", "13") else "OK"
        results.expect(case, seen["behavior"], expected["behaviour"].get(case, plain))
        results.expect(f"{case} close", seen["behaviorClose"] in ("OK", "INFORMATIONAL"), True)
    results.end()


main()
