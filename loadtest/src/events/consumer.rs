//! One process that consumes events: says each on standard output before it is acknowledged, until its standard input
//! closes or it is killed.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::Sender,
    thread,
    time::Duration,
};

use imcore::{Event, EventKind};
use serde::{Deserialize, Serialize};

use super::account::{Kind, Told};
use crate::{orders::Deployment, swarm::helper};

pub const GROUP: &str = "loadtest";
/// As long as it takes to store an event: who is killed has handled some that it has not acknowledged.
const STORES: Duration = Duration::from_millis(1);

/// What a receiver was told, from one process to another and from targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    Event {
        n: u64,
        id: String,
        kind: String,
        client: String,
        note: String,
    },
    /// So many are lost, or all.
    Missed(Option<u64>),
}

impl Word {
    fn of(event: &Event) -> Word {
        match event.kind {
            EventKind::Missed(count) => Word::Missed(count),
            _ => Word::Event {
                n: event.n,
                id: event.id.clone(),
                kind: event.kind.word().to_owned(),
                client: event.client.as_ref().map(|client| client.to_string()).unwrap_or_default(),
                note: event.ticket.as_ref().and_then(|ticket| ticket.meta()).unwrap_or_default(),
            },
        }
    }

    /// What it says of a connect of this run, if it does.
    pub fn told(self) -> Option<Told> {
        let Word::Event { n, id, kind, client, note } = self else { return None };
        let (kind, client) = (Kind::of(&kind)?, client.parse().ok()?);
        Some(Told { n, id, kind, client, attempt: note.parse().ok()? })
    }
}

/// What the process does.
pub fn run(deployment: &Deployment) -> Result<(), String> {
    let handle = |event: &Event| -> io::Result<()> {
        let mut line = serde_json::to_vec(&Word::of(event))?;
        line.push(b'\n');
        // One write: who is killed has said it whole, or not at all.
        io::stdout().write_all(&line)?;
        thread::sleep(STORES);
        Ok(())
    };
    let stream = helper(deployment)?.events(GROUP, handle).map_err(|error| error.to_string())?;
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    stream.stop();
    Ok(())
}

/// Such a process, from outside. Dropped: killed.
pub struct Consumer(Child);

impl Consumer {
    /// Starts one that tells `heard`.
    pub fn start(deployment: &Deployment, heard: Sender<Word>) -> Result<Self, String> {
        let own = env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
        let text = serde_json::to_string(deployment).map_err(|error| error.to_string())?;
        let mut command = Command::new(own);
        command.args(["consumer", "--deployment", &text]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("cannot start a consumer: {error}"))?;
        let lines = child.stdout.take().ok_or("a consumer without output")?;
        thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                if serde_json::from_str(&line).is_ok_and(|word| heard.send(word).is_err()) {
                    return;
                }
            }
        });
        Ok(Consumer(child))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
