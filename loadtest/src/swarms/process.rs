//! One client process: started from this program, spoken to by its pipes. Dropped: it ends.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use super::state::Shared;
use crate::{
    child::on_core,
    orders::{Deployment, Note, Order},
};

pub(super) struct Process {
    child: Child,
    orders: Orders,
}

/// Where orders go: none once the process was told to end. Shared with whoever gives some beside the measurement.
pub(super) type Orders = Arc<Mutex<Option<ChildStdin>>>;

/// Gives an order to a process.
pub(super) fn give(orders: &Orders, order: &Order) -> Result<(), String> {
    let mut line = serde_json::to_vec(order).map_err(|error| error.to_string())?;
    line.push(b'\n');
    let mut orders = orders.lock().unwrap_or_else(PoisonError::into_inner);
    let orders = orders.as_mut().ok_or("a client process was told to end")?;
    orders.write_all(&line).map_err(|error| format!("a client process is gone: {error}"))
}

impl Process {
    /// Starts the one with this index, on `core` alone if one is given; its notes go to `shared`.
    pub(super) fn start(
        deployment: Option<&Deployment>,
        index: usize,
        core: Option<usize>,
        shared: &Arc<Shared>,
    ) -> Result<Self, String> {
        let own = env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
        let mut command = Command::new(own);
        command.arg("swarm");
        if let Some(deployment) = deployment {
            let text = serde_json::to_string(deployment).map_err(|error| error.to_string())?;
            command.args(["--deployment", &text]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = on_core(core, || {
            command.spawn().map_err(|error| format!("cannot start a client process: {error}"))
        })?;
        let orders = Arc::new(Mutex::new(child.stdin.take()));
        let notes = child.stdout.take().ok_or("a client process without output")?;
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            for line in BufReader::new(notes).lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(note) => shared.hear(index, note),
                    Err(error) => shared.hear(index, Note::Failed(format!("{error}: {line}"))),
                }
            }
        });
        Ok(Process { child, orders })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn order(&self, order: &Order) -> Result<(), String> {
        give(&self.orders, order)
    }

    pub(super) fn orders(&self) -> Orders {
        Arc::clone(&self.orders)
    }

    /// It ends by itself once nobody can give it orders any more.
    pub(super) fn tell_to_end(&mut self) {
        *self.orders.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// All its sockets close at once.
    pub(super) fn kill(&mut self) -> Result<(), String> {
        self.child.kill().map_err(|error| format!("killing a client process: {error}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.tell_to_end();
        let _ = self.child.wait();
    }
}
