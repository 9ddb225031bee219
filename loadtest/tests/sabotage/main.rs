//! The load tool must notice what it exists to notice: each test breaks one thing between a real node and the
//! tool's clients, or the node itself, and reads the tool's own verdict and exit code.
//!
//! Knows the tool by its command line and output alone. Needs `redis-server`, and `imserver` beside the tool.

mod node;
mod proxy;

use node::{BUSY, Deployment, Run};
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
    let run = deployment.mixed_through(Sabotage::Nothing);
    assert!(run.is_sound(), "{}", run.output);
    // No process ids were named.
    let Run { output, .. } = run;
    assert!(output.contains("cores that the nodes used") || output.contains(BUSY), "{output}");
    assert!(output.contains("not measured") || output.contains(BUSY), "{output}");
}

#[test]
fn nodes_that_speak_tls_are_measured() {
    let run = node::mixed_by_tls();
    assert!(run.is_sound(), "{}", run.output);
}

#[test]
fn what_the_http_api_sends_is_measured() {
    let run = Deployment::start().mixed_by_api();
    assert!(run.is_sound(), "{}", run.output);
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
    let run = deployment.mixed_while(&[], |deployment| deployment.kill_node());
    assert!(!run.success && run.output.contains("connections ended"), "{}", run.output);
}

/// With clients that come back it is in order: all are back, and what they missed is told apart.
#[test]
fn the_node_is_killed_and_started_again() {
    let mut deployment = Deployment::start();
    let run = deployment.mixed_while(&["--reconnect"], |deployment| deployment.restart_node());
    assert!(run.is_sound(), "{}", run.output);
    assert!(run.output.contains("clients came back after"), "{}", run.output);
    let gaps = "from a connection's end to the next one: p50";
    assert!(run.output.contains(gaps) || run.output.contains(BUSY), "{}", run.output);
    let missed =
        run.output.split("missed while away ").nth(1).and_then(|rest| rest.split(',').next());
    assert!(missed.is_some_and(|missed| missed.parse::<u64>().unwrap() > 0), "{}", run.output);
}

/// Those who come and go meanwhile get in as well.
#[test]
fn the_node_is_killed_and_started_again_under_churn() {
    let mut deployment = Deployment::start();
    let run = deployment.churn_while(|deployment| deployment.restart_node());
    assert!(run.is_sound(), "{}", run.output);
    assert!(run.output.contains("attempts that failed meanwhile"), "{}", run.output);
}

/// Without them it is not.
#[test]
fn the_node_is_killed_and_nobody_comes_back() {
    let mut deployment = Deployment::start();
    let run = deployment.mixed_while(&[], |deployment| deployment.restart_node());
    assert!(!run.success && run.output.contains("connections ended"), "{}", run.output);
    assert!(!run.output.contains("missed while away"), "{}", run.output);
}

#[test]
fn everybody_is_cut_off_and_comes_back() {
    let run = Deployment::start().mixed_through_coming_back(Sabotage::CloseAll);
    assert!(run.is_sound() && run.output.contains("clients came back after"), "{}", run.output);
}

/// The account follows a client over all of its connections.
#[test]
fn a_message_comes_again_on_the_next_connection() {
    let run = Deployment::start().mixed_through_coming_back(Sabotage::Repeat);
    assert!(!run.success && run.output.contains("duplicates 1,"), "{}", run.output);
}

/// Coming back excuses what was sent meanwhile, and nothing else.
#[test]
fn a_frame_is_dropped_though_clients_would_come_back() {
    let run = Deployment::start().mixed_through_coming_back(Sabotage::Drop);
    assert!(!run.success && run.output.contains("lost 1,"), "{}", run.output);
    let run = Deployment::start().mixed_through_coming_back(Sabotage::Garbage);
    assert!(!run.success && run.output.contains("bytes that are no frame"), "{}", run.output);
}

/// Nothing is lost by this, so the tool must not say so.
#[test]
fn the_node_is_stopped_and_goes_on() {
    let mut deployment = Deployment::start();
    let run = deployment.mixed_while(&[], |deployment| deployment.pause_node());
    assert!(run.is_sound(), "{}", run.output);
}

/// The node restores what Redis lost; whoever comes meanwhile may be refused, which is a line of the report.
#[test]
fn redis_loses_its_data() {
    let mut deployment = Deployment::start();
    let run = deployment.mixed_while(&[], |deployment| deployment.flush_redis());
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

#[test]
fn a_wrong_prefix_or_list_of_servers_is_said_beside_what_is_there() {
    let deployment = Deployment::start();
    let topic = format!("im_v2_wsServer{}", deployment.server);
    let run = deployment.loadtest(&["mixed", "--prefix", "im_v3"]);
    for part in ["no node of this prefix reads this Redis", "im_v3_wsServer", &topic] {
        assert!(!run.success && run.output.contains(part), "no {part:?} in\n{}", run.output);
    }
    let run = deployment.of_servers("10.0.0.1:6001", &["mixed", "--first-client", "4000000000000"]);
    for part in ["reads this Redis", "im_v2_wsServer10.0.0.1:6001", &topic] {
        assert!(!run.success && run.output.contains(part), "no {part:?} in\n{}", run.output);
    }
    let with_one_more = format!("{},10.0.0.1:6001", deployment.server);
    let run = deployment.of_servers(&with_one_more, &["mixed", "--first-client", "4000000000000"]);
    assert!(run.output.contains("1 of 2 nodes do not read this Redis"), "{}", run.output);
}

/// Traffic at a rate runs once, and is not profiled: who asks for that is told.
#[test]
fn what_would_be_ignored_is_refused() {
    let deployment = Deployment::start();
    for arguments in [
        &["mixed", "--runs", "5"][..],
        &["soak", "--perf", "file"],
        &["churn", "--runs", "5"],
        &["fanout", "--rate", "5", "--runs", "5"],
        &["fanout", "--rooms", "2"],
        &["rows", "memory", "--perf", "file"],
    ] {
        let run = deployment.loadtest(arguments);
        assert!(
            !run.success && run.output.contains(arguments[arguments.len() - 2]),
            "{}",
            run.output
        );
        assert!(!run.output.contains("account"), "{}", run.output);
    }
}
