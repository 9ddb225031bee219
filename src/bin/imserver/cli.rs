//! The command line: flags and environment, and what the program does instead of running a node.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

use clap::{
    Arg, ArgAction, Command, ValueHint,
    builder::{PossibleValuesParser, ValueParser},
};
use clap_complete::Shell;
use imcore::{Error, ErrorKind};

use crate::{
    operate,
    settings::{self, environment, variable},
    slot_table,
};

/// What `--health` can ask; the first is asked where nothing is said. Each is a path below `/health/`.
const QUESTIONS: [&str; 2] = ["ready", "live"];

const ABOUT: &str =
    "Holds the WebSocket connections of clients and pushes what the business sends to them.";

const LAYERS: &str = "\
Each setting is looked up as a flag, then as an environment variable, then in the configuration file, \
then by its default: the first that is given wins. An empty variable counts as not given. Keys of the \
file are the flags with _ for -, and `limits` with times in seconds.

SIGHUP reads the configuration file and the certificate again; log, log_format, admin_token, api_key, hosts, \
all about webhooks and the certificate change at once. SIGINT or SIGTERM stops in good order; a second one ends at once.";

/// What was asked for on the command line and in the environment.
#[derive(Debug, Clone)]
pub(crate) struct Cli {
    pub(crate) flags: BTreeMap<&'static str, String>,
    pub(crate) environment: BTreeMap<&'static str, String>,
    /// The configuration file.
    pub(crate) config: Option<String>,
    /// Only check the settings and show them.
    pub(crate) check: bool,
    /// Have the check ask the broker too.
    pub(crate) dial: bool,
    /// Warnings about variables of the environment that are no settings.
    pub(crate) stray_variables: Vec<String>,
    /// Only ask the running node how it is: which question.
    pub(crate) health: Option<String>,
    /// Only ask the broker about webhooks, or do something about them.
    pub(crate) webhook: Option<String>,
    /// Only ask the broker about the table of slots, or do something about it: in these words.
    pub(crate) slot_table: Option<Vec<String>>,
    /// Only print a completion script.
    pub(crate) completions: Option<Shell>,
}

/// The command line as clap knows it.
pub(crate) fn command() -> Command {
    let settings = settings::with_flags().map(|setting| {
        let flag = setting.flag();
        let mut help = format!("{} [env: {}]", setting.help, setting.variable());
        if !setting.default.is_empty() {
            help += &format!(" [default: {}]", setting.default);
        }
        let values = match setting.choices {
            [] => ValueParser::string(),
            choices => PossibleValuesParser::new(choices).into(),
        };
        let flag = flag.trim_start_matches('-').to_owned();
        Arg::new(setting.name)
            .long(flag)
            .value_name(setting.value_name)
            .value_parser(values)
            .help(help)
    });
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_hint(ValueHint::FilePath)
        .help("Configuration file, JSON; deploy/imserver.example.json shows all keys [env: IMSERVER_CONFIG]");
    Command::new("imserver")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(LAYERS)
        .max_term_width(100)
        .args(settings)
        .arg(config)
        .args(instead())
}

/// What the program can do instead of running a node.
fn instead() -> [Arg; 6] {
    let check = Arg::new("check")
        .long("check")
        .action(ArgAction::SetTrue)
        .help("Check all settings, show what they come to, and exit");
    let dial = Arg::new("dial")
        .long("dial")
        .action(ArgAction::SetTrue)
        .requires("check")
        .help("With --check: ask Redis as well, and fail if it cannot be used");
    let health = Arg::new("health")
        .long("health")
        .value_name("WHAT")
        .num_args(0..=1)
        .default_missing_value(QUESTIONS[0])
        .value_parser(PossibleValuesParser::new(QUESTIONS))
        .help("Ask the admin listener of the node that runs with these settings whether clients can connect \
               (ready, the default) or it must be restarted (live), and exit with 0 or 1");
    let webhook = Arg::new("webhook")
        .long("webhook")
        .value_name("WHAT")
        .num_args(0..=1)
        .default_missing_value(operate::VERBS[0])
        .value_parser(PossibleValuesParser::new(operate::VERBS))
        .help("Ask Redis how webhooks go (status, the default) or for dead letters (dead); deliver these once more (replay), throw \
               them away (discard); switch delivery on or off on all nodes; and exit");
    let slot_table = Arg::new("slot-table")
        .long("slot-table")
        .value_name("WHAT")
        .num_args(0..)
        .default_missing_value(slot_table::DEFAULT)
        .help("Ask Redis which node serves which slot: for people (status, the default), or as a map for a proxy (nginx, haproxy, \
               caddy); say what a change would move (plan join=im-4 drain=im-1); have a node give its slots away, or take its share \
               again (drain im-1, stay im-1), or another weight (weight im-1 2); make the first table, of a fixed list \
               (begin 63 im-0,im-1,im-2); and exit");
    let completions = Arg::new("completions")
        .long("completions")
        .value_name("SHELL")
        .value_parser(clap::value_parser!(Shell))
        .help("Print a completion script, and exit");
    [check, dial, health, webhook, slot_table, completions]
}

impl Cli {
    /// Reads the command line; ends the program on a mistake and after `--help`.
    pub(crate) fn read() -> Result<Cli, Error> {
        let matches = command().get_matches();
        let text = |name: &str| matches.get_one::<String>(name).cloned();
        let flags =
            settings::with_flags().filter_map(|setting| Some((setting.name, text(setting.name)?)));
        let environment = settings::with_flags().filter_map(|setting| {
            from_environment(setting.name)
                .map(|found| found.map(|text| (setting.name, text)))
                .transpose()
        });
        Ok(Cli {
            flags: flags.collect(),
            environment: environment.collect::<Result<_, _>>()?,
            config: match text("config") {
                Some(path) => Some(path),
                None => from_environment("config")?,
            },
            check: matches.get_flag("check"),
            dial: matches.get_flag("dial"),
            stray_variables: environment::warnings(text_variables()),
            health: text("health"),
            webhook: text("webhook"),
            slot_table: matches.get_many("slot-table").map(|words| words.cloned().collect()),
            completions: matches.get_one::<Shell>("completions").copied(),
        })
    }
}

/// The variables that are text.
fn text_variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn from_environment(name: &str) -> Result<Option<String>, Error> {
    let variable = variable(name);
    let found = std::env::var_os(&variable).filter(|value| value != OsStr::new(""));
    found.map(OsString::into_string).transpose().map_err(|_| {
        Error::new(ErrorKind::Config, format!("{variable}: the value is not UTF-8 text"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
