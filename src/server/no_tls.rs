//! What stands for `tls` in a build without that feature: the same names, and nothing that could bear them.

use std::{
    convert::Infallible,
    io::{self, IoSlice, Read, Write},
    time::SystemTime,
};

use super::reasons::TlsFailure;
use crate::error::Result;

/// Where a node's certificate and its private key are. It cannot be had in a build without the feature `tls`.
#[derive(Debug, Clone)]
pub struct TlsConfig(Infallible);

impl TlsConfig {
    /// What an operator should look at.
    pub fn doubts(&self) -> Vec<String> {
        match self.0 {}
    }

    pub(super) fn validate(&self) -> Result<()> {
        match self.0 {}
    }
}

#[derive(Debug, Clone)]
pub(super) struct Tls(Infallible);

impl Tls {
    pub(super) fn new(config: &TlsConfig) -> Result<Self> {
        match config.0 {}
    }

    pub(super) fn session(&self, _: Vec<u8>) -> io::Result<TlsSession> {
        match self.0 {}
    }

    pub(super) fn reload(&self, _: &TlsConfig) -> Result<()> {
        match self.0 {}
    }

    pub(super) fn expiry(&self) -> Option<SystemTime> {
        match self.0 {}
    }
}

#[derive(Debug)]
pub(super) struct TlsSession(Infallible);

impl TlsSession {
    pub(super) fn process(&mut self, _: &mut impl Write) -> io::Result<()> {
        match self.0 {}
    }

    pub(super) fn is_handshaking(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn read(&mut self, _: &mut (impl Read + Write), _: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }

    pub(super) fn has_unread(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn write(&mut self, _: &mut impl Write, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.0 {}
    }

    pub(super) fn begun(&self) -> usize {
        match self.0 {}
    }

    pub(super) fn take_received(&mut self) -> usize {
        match self.0 {}
    }

    pub(super) fn unsent(&self) -> usize {
        match self.0 {}
    }

    pub(super) fn push_out(&mut self, _: &mut impl Write) -> io::Result<()> {
        match self.0 {}
    }

    pub(super) fn close(&mut self, _: &mut impl Write) -> io::Result<()> {
        match self.0 {}
    }

    pub(super) fn failure(_: Option<&io::Error>) -> TlsFailure {
        TlsFailure::Left
    }
}
