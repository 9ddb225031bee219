//! What is measured: child processes or a running deployment, and what of the latter may be touched.

use std::path::PathBuf;

use clap::Args;

/// What is measured.
#[derive(Debug, Clone, Args)]
pub struct DeploymentArgs {
    /// Measure a running deployment on this Redis instead of child processes
    #[arg(long, value_name = "URL", requires = "servers")]
    pub redis: Option<String>,
    /// The running deployment's nodes, in its order
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', requires = "redis")]
    pub servers: Vec<String>,
    /// Process ids of its nodes, if they run here, to measure CPU and memory
    #[arg(long, value_name = "PIDS", value_delimiter = ',', requires = "redis")]
    pub pids: Vec<u32>,
    /// Its prefix
    #[arg(long, default_value = "im_v2")]
    pub prefix: String,
    /// Its WebSocket path
    #[arg(long, default_value = "/ws")]
    pub path: String,
    /// Its public address template [default: ws://{server}{path}, wss:// with --ca]
    #[arg(long, value_name = "TEMPLATE")]
    pub public_url: Option<String>,
    /// First of the client ids that test clients take, 200,000,000 from there on. Needed with --redis: a test
    /// client that takes a user's id gets that user's messages, and its user gets test messages
    #[arg(long, value_name = "ID")]
    pub first_client: Option<i64>,
    /// What the test's channels are called, with a number behind it [default: with --redis a name of this run's
    /// own]
    #[arg(long, value_name = "TEXT")]
    pub room_prefix: Option<String>,
    /// Allow rows that send to every client of the running deployment
    #[arg(long, requires = "redis")]
    pub broadcast_to_everybody: bool,
    /// Certificate of the authority that clients trust, as PEM: they connect by wss://. Own nodes need
    /// --node-arg=--tls-cert=FILE and --node-arg=--tls-key=FILE with a certificate for 127.0.0.1
    #[arg(long, value_name = "FILE")]
    pub ca: Option<String>,
    /// Send what goes out at a rate through the HTTP API of a node, not by the helper
    #[arg(long, value_name = "URL", requires = "redis")]
    pub api: Option<String>,
    /// Its key
    #[arg(long, value_name = "TEXT", env = "IMSERVER_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// The server to start [default: imserver beside this program]
    #[arg(long, value_name = "PATH")]
    pub imserver: Option<PathBuf>,
    /// A further flag for each started node; may be repeated
    #[arg(long = "node-arg", value_name = "FLAG", allow_hyphen_values = true)]
    pub node_args: Vec<String>,
    /// Keep what is sent in the log of messages; own nodes are started with it
    #[arg(long)]
    pub message_log: bool,
    /// Server on the first core, everything else on the second (rows do so by default)
    #[arg(long)]
    pub pin: bool,
}

/// Which core runs what.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pins {
    pub server: Option<usize>,
    pub clients: Option<usize>,
}

impl DeploymentArgs {
    /// How clients find the nodes.
    pub fn public_url(&self) -> String {
        let scheme = if self.ca.is_some() { "wss" } else { "ws" };
        self.public_url.clone().unwrap_or_else(|| format!("{scheme}://{{server}}{{path}}"))
    }

    /// Refuses on a running deployment what only makes sense on nodes that are started for it.
    pub fn own_nodes_only(&self, row: &str) -> Result<(), String> {
        match self.redis {
            Some(_) => Err(format!("{row}: starts nodes of its own; leave out --redis")),
            None => Ok(()),
        }
    }

    /// Refuses to send to all users of a running deployment by accident.
    pub fn may_broadcast(&self, row: &str) -> Result<(), String> {
        match self.redis.is_some() && !self.broadcast_to_everybody {
            true => Err(format!(
                "{row}: sends 64 KiB to every client of the deployment; allow it with \
                 --broadcast-to-everybody"
            )),
            false => Ok(()),
        }
    }

    pub fn pins(&self) -> Pins {
        if self.pin { Pins { server: Some(0), clients: Some(1) } } else { Pins::default() }
    }
}
