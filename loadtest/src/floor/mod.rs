//! The floor server and the conductor's hold on it.

mod resp;
pub mod server;

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::{child::on_core, frame, meter::Meter};

/// A running floor process. Dropped: it ends.
pub struct Floor {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// Where its clients connect.
    pub address: String,
}

impl Floor {
    /// Starts one; with `redis` (URL and topic) it is fed from there, and with `merging` writes together what
    /// came from there together.
    pub fn start(
        redis: Option<(&str, &str)>,
        merging: bool,
        core: Option<usize>,
    ) -> Result<Self, String> {
        let own = env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
        let mut command = Command::new(own);
        command.arg("floor-server");
        if let Some((url, topic)) = redis {
            command.args(["--redis", url, "--topic", topic]);
            command.args(merging.then_some("--merging"));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = on_core(core, || {
            command.spawn().map_err(|error| format!("cannot start the floor: {error}"))
        })?;
        let mut line = String::new();
        let mut output = BufReader::new(process.stdout.take().ok_or("a floor without output")?);
        output.read_line(&mut line).map_err(|error| error.to_string())?;
        let input = process.stdin.take();
        Ok(Floor { process, input, output, address: line.trim().to_owned() })
    }

    /// Waits until it has accepted `clients` more sockets: without a handshake, a client cannot know.
    pub fn accepted(&mut self, clients: usize) -> Result<(), String> {
        let mut line = String::new();
        for _ in 0..clients {
            line.clear();
            match self.output.read_line(&mut line) {
                Ok(0) => return Err("the floor is gone".into()),
                Ok(_) => {}
                Err(error) => return Err(format!("the floor is gone: {error}")),
            }
        }
        Ok(())
    }

    pub fn meter(&self) -> Meter {
        Meter::of(vec![self.process.id()])
    }

    /// Writes these payloads to every socket; `merging`: what arrives together in one write.
    pub fn send(
        &mut self,
        payloads: impl Iterator<Item = String>,
        merging: bool,
    ) -> Result<(), String> {
        let mut input = Vec::new();
        for payload in payloads {
            let frame = frame::text(payload.as_bytes());
            input.push(if merging { server::MERGING } else { server::PLAIN });
            input.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            input.extend_from_slice(&frame);
        }
        let pipe = self.input.as_mut().ok_or("the floor was told to end")?;
        pipe.write_all(&input).map_err(|error| format!("the floor is gone: {error}"))
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.input = None;
        // It may be in the middle of writing to clients that read no more.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
