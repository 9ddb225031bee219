//! What stands for `tls` in a build without that feature: the same names, and nothing that could bear them.

use std::{
    convert::Infallible,
    io::{self, IoSlice, Read, Write},
    time::SystemTime,
};

use crate::{error::Result, server::reasons::TlsFailure};

/// Where a node's certificate and its private key are. It cannot be had in a build without the feature `tls`.
#[derive(Debug, Clone)]
pub struct TlsConfig(Infallible);

impl TlsConfig {
    /// What an operator should look at.
    pub fn warnings(&self) -> Vec<String> {
        match self.0 {}
    }

    pub(crate) fn validate(&self) -> Result<()> {
        match self.0 {}
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Tls(Infallible);

impl Tls {
    pub(crate) fn new(config: &TlsConfig) -> Result<Self> {
        match config.0 {}
    }

    pub(crate) fn session(&self, _: Vec<u8>) -> io::Result<TlsSession> {
        match self.0 {}
    }

    pub(crate) fn reload(&self, _: &TlsConfig) -> Result<()> {
        match self.0 {}
    }

    pub(crate) fn expiry(&self) -> Option<SystemTime> {
        match self.0 {}
    }
}

#[derive(Debug)]
pub(crate) struct TlsSession(Infallible);

impl TlsSession {
    pub(crate) fn process(&mut self, _: &mut impl Write) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn read(&mut self, _: &mut (impl Read + Write), _: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }

    pub(crate) fn has_unread(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn write(&mut self, _: &mut impl Write, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.0 {}
    }

    pub(crate) fn begun(&self) -> usize {
        match self.0 {}
    }

    pub(crate) fn take_received(&mut self) -> usize {
        match self.0 {}
    }

    pub(crate) fn unsent(&self) -> usize {
        match self.0 {}
    }

    pub(crate) fn push_out(&mut self, _: &mut impl Write) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn close(&mut self, _: &mut impl Write) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn failure(_: Option<&io::Error>) -> TlsFailure {
        TlsFailure::Left
    }
}
