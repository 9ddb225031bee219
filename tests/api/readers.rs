//! The examples that read events that are kept: what each promises for itself, and a PHP program that is replaced by a new
//! version of itself in the midst of traffic. The languages are needed for it, which the marks of the tests say.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::json;
use testkit::{
    eventually,
    proxy::{Mode, Proxy},
};

use crate::cluster::{Cluster, KEY};

const EVENTS: [&str; 4] = ["--events", "100000", "--keep", "0"];
const STREAM: &str = "im_v2_wsEvents";

/// Lines of the ledger that php has written, as the others write them.
const DUMP: &str = r#"
$db = new PDO('sqlite:' . $argv[1]);
foreach (['events' => '%s %s %s %s', 'missed' => '- missed %s online %s'] as $table => $form) {
    foreach ($db->query("SELECT * FROM $table ORDER BY rowid", PDO::FETCH_NUM) as $row) {
        vprintf("$form\n", $row);
    }
}
"#;

fn examples() -> PathBuf {
    testkit::root().join("examples/events")
}

/// A folder of a test's own. Dropped: gone.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = env::temp_dir().join(format!("imcore-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {out}\n{errors}");
    out.into_owned()
}

/// The program of a language, compiled if need be.
fn program(language: &str, folder: &Path) -> Command {
    let command = |program: &str, file: &str| {
        let mut command = Command::new(program);
        command.arg(examples().join(file));
        command
    };
    match language {
        "python" => command("python3", "events.py"),
        "node" => command("node", "events.mjs"),
        "php" => command("php", "events.php"),
        "java" => command("java", "Events.java"),
        "go" => {
            let program = folder.join("events-go");
            run(Command::new("go")
                .args(["build", "-o"])
                .args([&program, &examples().join("events.go")]));
            Command::new(program)
        }
        "cs" => {
            let program = folder.join("Events.exe");
            let mut compiler = command("mcs", "Events.cs");
            run(compiler
                .arg("-r:System.Net.Http,System.Runtime.Serialization")
                .arg(format!("-out:{}", program.display())));
            let mut mono = Command::new("mono");
            mono.arg(program);
            mono
        }
        other => unreachable!("{other}"),
    }
}

/// A program at work, its ledger, and what it says. Dropped: killed.
struct Reader {
    child: Child,
    ledger: PathBuf,
    log: PathBuf,
}

impl Reader {
    fn start(mut program: Command, name: &str, folder: &Path, api: &str) -> Reader {
        let (ledger, log) = (folder.join(name), folder.join(format!("{name}.log")));
        let said = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        program.arg(name).arg(&ledger).stdin(Stdio::null());
        program.stdout(said.try_clone().unwrap()).stderr(said);
        program.env("IMSERVER_API", api).env("IMSERVER_API_KEY", KEY);
        let child = program.spawn().unwrap_or_else(|error| panic!("{program:?}: {error}"));
        Reader { child, ledger, log }
    }

    /// Kind, client and reason of each event.
    fn lines(&self) -> Vec<String> {
        let text = match self.ledger.ends_with("php") {
            true => dump(&self.ledger),
            false => fs::read_to_string(&self.ledger).unwrap(),
        };
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dump(ledger: &Path) -> String {
    run(Command::new("php").args(["-r", DUMP]).arg(ledger))
}

/// Whether all groups have done with all that there is.
fn are_done(cluster: &Cluster, groups: usize) -> bool {
    let answer = cluster.expect(1, "GET /v1/events/groups", None, 200).json();
    let all = answer["groups"].as_array().unwrap();
    let is_open = |name: &str| all.iter().any(|group| group[name] != 0);
    all.len() == groups && !["waiting", "unacknowledged", "missed"].into_iter().any(is_open)
}

fn has_readers(cluster: &Cluster) -> bool {
    let groups = cluster.expect(1, "GET /v1/events/groups", None, 200).json();
    let groups = groups["groups"].as_array().unwrap().clone();
    groups.iter().any(|group| group["readers"] != json!([]))
}

fn comes_and_goes(cluster: &Cluster, client: i64) {
    cluster.connect(client).leave();
    eventually("it is gone", || !cluster.is_online(client));
}

#[test]
#[ignore = "needs python3, node, php, go, java and mono; .ci/run runs it"]
fn each_language_handles_each_event_once() {
    let languages = ["python", "node", "php", "go", "java", "cs"];
    let (cluster, folder) = (Cluster::start_with(&EVENTS), Folder::new("readers"));
    let proxy = Proxy::start(cluster.apis[0].port());
    let api = format!("http://127.0.0.1:{}", proxy.port);
    let start = || -> Vec<Reader> {
        let start = |name: &&str| Reader::start(program(name, &folder.0), name, &folder.0, &api);
        languages.iter().map(start).collect()
    };
    let mut expected = Vec::new();
    let mut client_is_seen = |client: i64| {
        let words = ["opened - ", "online - ", "ended client_closed", "offline client_closed"];
        expected.extend(words.map(|word| {
            let (kind, reason) = word.split_once(' ').unwrap();
            format!("{kind} {client} {}", reason.trim_end())
        }));
        expected.clone()
    };
    let all_have = |readers: &[Reader], lines: &[String], what: &str| {
        eventually(what, || are_done(&cluster, readers.len()));
        for reader in readers {
            assert_eq!(reader.lines(), lines, "{:?}: {what}", reader.log);
        }
    };

    let readers = start();
    eventually("all groups are there", || are_done(&cluster, readers.len()));
    comes_and_goes(&cluster, 1);
    all_have(&readers, &client_is_seen(1), "as it happens");

    proxy.set(Mode::Cut);
    comes_and_goes(&cluster, 2);
    proxy.heal();
    all_have(&readers, &client_is_seen(2), "what happened while the API was away");

    // Ended before they could acknowledge anything, a good while ago.
    drop(readers);
    eventually("nobody reads", || !has_readers(&cluster));
    let mut redis = cluster.redis.connect();
    let entries: Vec<(String, redis::Value)> =
        redis::cmd("XRANGE").arg(STREAM).arg("-").arg("+").query(&mut redis).unwrap();
    let ids: Vec<_> = entries.iter().map(|(id, _)| &**id).collect();
    for language in languages {
        let mut claim = redis::cmd("XCLAIM");
        claim.arg(STREAM).arg(language).arg("dead").arg(0).arg(&ids);
        claim.arg("IDLE").arg(31_000).arg("FORCE").arg("JUSTID").exec(&mut redis).unwrap();
    }
    assert!(!are_done(&cluster, languages.len()));
    let readers = start();
    comes_and_goes(&cluster, 3);
    all_have(&readers, &client_is_seen(3), "what comes again is known");

    proxy.set(Mode::Cut);
    comes_and_goes(&cluster, 4);
    redis::cmd("XTRIM").arg(STREAM).arg("MAXLEN").arg(0).exec(&mut redis).unwrap();
    let stays = cluster.connect(5);
    proxy.heal();
    eventually("what was missed is told", || are_done(&cluster, readers.len()));
    for reader in &readers {
        let lines = reader.lines();
        assert!(lines.contains(&"missed 4 online 1".to_owned()), "{:?}: {lines:?}", reader.log);
        assert!(lines.contains(&"online 5 -".to_owned()), "{:?}: {lines:?}", reader.log);
        let said = fs::read_to_string(&reader.log).unwrap();
        assert!(said.contains("once more") && !said.contains(KEY), "{said}");
    }
    drop(stays);
}

#[test]
#[ignore = "needs php; .ci/run runs it"]
fn a_php_worker_counts_each_offline_event_once_across_its_deploy() {
    const CLIENTS: i64 = 90;
    let (cluster, folder) = (Cluster::start_with(&EVENTS), Folder::new("deploy"));
    let (api, ledger) = (format!("http://{}", cluster.apis[0]), folder.0.join("billing"));
    let text = fs::read_to_string(examples().join("events.php")).unwrap();
    let reason = "$event['reason'] ?? '-',";
    assert!(text.contains(reason));
    for (version, text) in [("1", text.clone()), ("2", text.replace(reason, "'version 2',"))] {
        fs::create_dir(folder.0.join(version)).unwrap();
        fs::write(folder.0.join(version).join("events.php"), text).unwrap();
    }
    // As deploys do: a link changes from one to the other at once.
    let current = folder.0.join("current");
    let deploy = |version: &str| {
        let next = folder.0.join("next");
        std::os::unix::fs::symlink(version, &next).unwrap();
        fs::rename(next, &current).unwrap();
    };
    let work = || {
        let mut php = Command::new("php");
        php.arg(current.join("events.php"));
        Reader::start(php, "billing", &folder.0, &api)
    };
    deploy("1");
    let mut worker = work();
    eventually("it reads", || are_done(&cluster, 1));
    let count = || dump(&ledger).lines().count();
    for client in 1..=CLIENTS {
        // With several under way at any time.
        cluster.connect(client).leave();
        match client {
            // It dies, and the next one goes on.
            20 | 40 | 70 => {
                eventually("it is at work", || count() > 0);
                drop(worker);
                worker = work();
            }
            50 => {
                deploy("2");
                run(Command::new("kill").arg(worker.child.id().to_string()));
                let _ = worker.child.wait();
                worker = work();
            }
            _ => {}
        }
    }
    eventually("all is done", || {
        (1..=CLIENTS).all(|client| !cluster.is_online(client)) && are_done(&cluster, 1)
    });
    let text = dump(&ledger);
    let offline = |version: bool| {
        let lines = text.lines().filter(move |line| line.ends_with("version 2") == version);
        lines.filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            (words.next() == Some("offline")).then(|| words.next().unwrap().parse::<i64>().unwrap())
        })
    };
    assert!(offline(false).count() > 0 && offline(true).count() > 0, "both versions: {text}");
    let mut clients: Vec<_> = offline(false).chain(offline(true)).collect();
    clients.sort_unstable();
    assert_eq!(clients, (1..=CLIENTS).collect::<Vec<_>>(), "each once");
    assert_eq!(text.lines().count() as i64, 4 * CLIENTS);
    let groups = cluster.expect(2, "GET /v1/events/groups", None, 200).json();
    assert_eq!(groups["groups"][0]["missed"], json!(0));
}
