//! The load tool must notice what it exists to notice: each test breaks one thing between a real node and the
//! tool's clients, or the node itself, and reads the tool's own verdict and exit code.
//!
//! Knows the tool by its command line and output alone. Needs `redis-server`, and `imserver` beside the tool.

mod node;
mod proxy;

use node::{Deployment, Run};
use proxy::Sabotage;

/// What the account says of a run in which one thing was broken.
fn told(sabotage: Sabotage, expected: &str) {
    let deployment = Deployment::start();
    let run = deployment.mixed_through(sabotage);
    assert!(!run.success, "{sabotage:?} passed:\n{}", run.output);
    assert!(run.output.contains(expected), "{sabotage:?}: no {expected:?} in\n{}", run.output);
    assert!(!run.output.contains(": met"), "{sabotage:?} met a target:\n{}", run.output);
}

#[test]
fn nothing_wrong() {
    let deployment = Deployment::start();
    let Run { success, output } = deployment.mixed_through(Sabotage::Nothing);
    assert!(success, "{output}");
    assert!(output.contains("balanced") && !output.contains("FAULT"), "{output}");
    // No process ids were named.
    assert!(
        output.contains("cores that the nodes used") && output.contains("not measured"),
        "{output}"
    );
}

#[test]
fn nodes_that_speak_tls_are_measured() {
    let run = node::mixed_by_tls();
    assert!(run.success && run.output.contains("balanced"), "{}", run.output);
}

#[test]
fn what_the_http_api_sends_is_measured() {
    let run = Deployment::start().mixed_by_api();
    assert!(run.success && run.output.contains("balanced"), "{}", run.output);
}

#[test]
fn a_frame_is_dropped() {
    told(Sabotage::Drop, "lost 1,");
}

#[test]
fn a_frame_comes_twice() {
    told(Sabotage::Double, "duplicates 1,");
}

#[test]
fn a_frame_comes_again_when_all_seems_over() {
    told(Sabotage::LateDouble, "duplicates 1,");
}

#[test]
fn two_frames_change_places() {
    told(Sabotage::Swap, "out of order 1,");
}

#[test]
fn two_clients_get_each_others_messages() {
    told(Sabotage::Exchange, "at the wrong client 2,");
}

#[test]
fn a_message_is_cut() {
    told(Sabotage::Cut, "damaged 1,");
}

#[test]
fn a_message_is_changed() {
    told(Sabotage::Pad, "damaged 1,");
}

#[test]
fn garbage_comes_between_frames() {
    told(Sabotage::Garbage, "connections ended: bytes that are no frame");
}

#[test]
fn everybody_is_cut_off() {
    told(Sabotage::CloseAll, "connections ended: closed by the server");
}

#[test]
fn the_node_is_killed() {
    let mut deployment = Deployment::start();
    let run = deployment.mixed_while(|deployment| deployment.kill_node());
    assert!(!run.success && run.output.contains("connections ended"), "{}", run.output);
}

/// Nothing is lost by this, so the tool must not say so.
#[test]
fn the_node_is_stopped_and_goes_on() {
    let mut deployment = Deployment::start();
    let run = deployment.mixed_while(|deployment| deployment.pause_node());
    assert!(run.success && run.output.contains("balanced"), "{}", run.output);
}

/// The node restores what Redis lost; whoever comes meanwhile may be refused, which is a line of the report.
#[test]
fn redis_loses_its_data() {
    let mut deployment = Deployment::start();
    let run = deployment.mixed_while(|deployment| deployment.flush_redis());
    assert!(run.output.contains("account: offered"), "the account is missing:\n{}", run.output);
}

#[test]
fn a_generator_that_is_late_has_no_result() {
    let deployment = Deployment::start();
    let run = deployment.loadtest(&[
        "mixed",
        "--clients",
        "10",
        "--direct-rate",
        "200000",
        "--room-rate",
        "0",
        "--churn-rate",
        "0",
        "--seconds",
        "0.1",
    ]);
    assert!(!run.success && run.output.contains("not a result"), "{}", run.output);
    assert!(!run.output.contains("p99"), "{}", run.output);
}

#[test]
fn a_running_deployment_is_handled_with_care() {
    let deployment = Deployment::start();
    for (arguments, expected) in [
        (&["rows", "reactors"][..], "starts nodes of its own"),
        (&["rows", "memory"], "--broadcast-to-everybody"),
    ] {
        let run = deployment.loadtest(arguments);
        assert!(!run.success && run.output.contains(expected), "{}", run.output);
    }
    let run = deployment.without_first_client(&["mixed"]);
    assert!(!run.success && run.output.contains("--first-client"), "{}", run.output);
}
