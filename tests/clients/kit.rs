//! Clients in other languages, as they stand in `client/`, against the conformance kit.

use std::{
    path::Path,
    process::{Command, Output},
};

use crate::driver::folder;

/// Most scenarios wait most of the time.
const JOBS: &str = "10";

#[test]
#[ignore = "needs mono, mcs and node; .ci/run runs it"]
fn csharp() {
    let client = testkit::root().join("client");
    let program = folder("csharp").join("driver.exe");
    let mut compiler = Command::new("mcs");
    compiler.args(["-langversion:7.2", "-warnaserror", "-r:System.Net.Http.dll"]);
    compiler.arg(format!("-out:{}", program.display()));
    compiler
        .arg(client.join("csharp/*.cs"))
        .arg(client.join("conformance/drivers/csharp/Driver.cs"));
    passes(compiler.output());
    play(&client, &["mono", &program.to_string_lossy(), "tcp"]);
}

/// Plays all scenarios with a driver.
fn play(client: &Path, driver: &[&str]) {
    let mut kit = Command::new("node");
    kit.arg(client.join("conformance/run.js")).args(["--jobs", JOBS, "--"]).args(driver);
    passes(kit.output());
}

fn passes(output: std::io::Result<Output>) {
    let output = output.unwrap_or_else(|error| panic!("it does not start: {error}"));
    let words =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}", words.concat());
}
