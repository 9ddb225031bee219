//! The program as an operator sees it: flags, exit codes, signals, and nodes that die.

mod cluster;
mod deaths;
mod events;
mod flags;
mod health;
mod ids;
mod listed;
mod logs;
mod misfits;
mod pressure;
mod rights;
mod signals;
mod slots;
mod stopped;
mod stops;
mod tls;
mod vendors;
mod webhook_alone;
mod webhook_tls;
mod webhooks;
