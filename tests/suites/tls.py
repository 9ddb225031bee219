"""TLS of a real node as testssl.sh, sslyze, sslscan and OpenSSL's client see it. `tls.json` holds what is expected."""

import json
import re
import subprocess
from pathlib import Path

from lab import Cluster, Results, python_tools

EXPECTED = json.loads((Path(__file__).parent / "tls.json").read_text())


def run(words, **options):
    words = list(map(str, words))
    return subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600, **options)


def by_sslyze(results, address, folder):
    python = python_tools("tls", "sslyze==6.3.1")
    report = folder / "sslyze.json"
    run([python, "-m", "sslyze", "--json_out", report, address])
    [server] = json.loads(report.read_text())["server_scan_results"]
    scan = server["scan_result"]
    for name, suites in EXPECTED["suites"].items():
        accepted = scan[f"{name}_cipher_suites"]["result"]["accepted_cipher_suites"]
        results.expect(f"sslyze {name}", sorted(each["cipher_suite"]["name"] for each in accepted), suites)
    for name, value in EXPECTED["sslyze"].items():
        check, field = name.split(".")
        results.expect(f"sslyze {name}", scan[check]["result"][field], value)


def by_testssl(results, address, ca, folder):
    report = folder / "testssl.json"
    run(["testssl", "-p", "-s", "-f", "-U", "--ip", "127.0.0.1", "--add-ca", ca, "--color", "0", "--quiet", "--warnings", "off",
         "--jsonfile", report, address])
    findings = json.loads(report.read_text())
    results.expect("testssl looked at enough", len(findings) > 40, True)
    for finding in findings:
        if finding["severity"] in ("LOW", "MEDIUM", "HIGH", "CRITICAL"):
            results.expect(f"testssl {finding['id']}", finding["finding"], EXPECTED["testssl"].get(finding["id"]))
        else:
            results.expect(f"testssl {finding['id']}", finding["severity"] != "FATAL", True)


def by_sslscan(results, address):
    text = run(["sslscan", "--no-colour", address]).stdout
    enabled = re.findall(r"^(\w+v[\d.]+) +enabled", text, re.M)
    results.expect("sslscan protocols", enabled, ["TLSv1.2", "TLSv1.3"])
    results.expect("sslscan heartbleed", len(re.findall("not vulnerable to heartbleed", text)), 2)


def by_openssl(results, address):
    """A client that offers a protocol that is not spoken is told so by an alert, in either version."""
    for version in ("-tls1_2", "-tls1_3"):
        text = run(["openssl", "s_client", "-connect", address, version, "-alpn", "h2"]).stderr
        results.expect(f"openssl {version}: alert 120", "SSL alert number 120" in text, True)
        text = run(["openssl", "s_client", "-connect", address, version, "-alpn", "http/1.1"]).stdout
        results.expect(f"openssl {version}: ALPN", "ALPN protocol: http/1.1" in text, True)


def main():
    results = Results("tls")
    with Cluster(1, secure=True) as cluster:
        address = f"localhost:{cluster.listen[0]}"
        by_sslyze(results, address, cluster.folder)
        by_testssl(results, address, cluster.ca, cluster.folder)
        by_sslscan(results, address)
        by_openssl(results, address)
    results.end()


main()
