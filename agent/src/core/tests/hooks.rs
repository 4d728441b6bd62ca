//! Hooks, as far as they are decided and not run.

use super::*;
use serde_json::json;

fn with_plan(change: impl FnOnce(&mut Schedule)) -> World {
    let mut world = World::new();
    change(&mut world.desired.schedules[0]);
    let effects = world.brain.handle_desired_stored(world.desired.clone(), world.now);
    world.execute(effects);
    world.connect();
    world
}

fn answer(world: &World) -> protocol::CommandResult {
    let frame = world.wire.iter().find(|frame| frame.kind == "command.result").unwrap();
    frame.payload().unwrap()
}

fn last_end(world: &World) -> JobFinished {
    let last = world.records.values().rfind(|record| record.kind == "job.finished").unwrap();
    serde_json::from_str(&last.payload).unwrap()
}

#[test]
fn a_hook_that_cannot_be_read_is_never_passed_over() {
    let mut world = with_plan(|plan| plan.options = Some(json!({ "hooks": { "on_moon": "x" } })));
    world.command(1);
    assert_eq!((answer(&world).accepted, answer(&world).code), (false, Some(Code::HookFailed)));
}

#[test]
fn a_snapshot_that_is_found_after_a_crash_is_partial_where_hooks_were_to_come() {
    for (hooks, status, code) in [
        (json!({ "before": "dump" }), JobStatus::Succeeded, None),
        (json!({ "after": "clean" }), JobStatus::Partial, Some(Code::HookFailed)),
        (json!({ "on_success": "tell" }), JobStatus::Partial, Some(Code::HookFailed)),
    ] {
        let mut world = with_plan(|plan| plan.options = Some(json!({ "hooks": hooks })));
        world.command(1);
        world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(1) }));
        world.crash();
        let found = Recovered::Snapshot("aa".to_owned());
        let effects = world.brain.handle_recovered(run_id(1), found, world.now);
        world.execute(effects);
        let end = last_end(&world);
        assert_eq!((end.status, end.code), (status, code), "{hooks}");
        assert_eq!(end.snapshot_id.as_deref(), Some("aa"));
    }
}
