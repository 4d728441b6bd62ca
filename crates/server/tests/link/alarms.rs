//! What agents told people by themselves, as their journals say it.

use crate::double::Fleet;
use jiff::SignedDuration;
use protocol::{
    AlarmDelivered, AlarmId, AlarmRaised, AlarmState, ChannelId, Code, DeliveryResult, FromAgent,
    PlanId, Problem,
};
use schedule::Clock;
use server::db::{alarms, notices};

fn raised(n: u8, fleet: &Fleet) -> AlarmRaised {
    AlarmRaised {
        alarm_id: AlarmId::new(1, &[n; 10]),
        schedule_id: PlanId::new(1, &[1; 10]),
        repository_id: None,
        state: AlarmState::Failed,
        was: AlarmState::Good,
        at: fleet.clock.now() + SignedDuration::from_hours(2),
        last_good: None,
        code: Some(Code::WrongPassword),
        run_id: None,
        channels: vec![ChannelId::new(1, &[1; 10]), ChannelId::new(1, &[2; 10])],
    }
}

fn delivered(n: u8, channel: u8, result: DeliveryResult, fleet: &Fleet) -> AlarmDelivered {
    AlarmDelivered {
        alarm_id: AlarmId::new(1, &[n; 10]),
        channel_id: ChannelId::new(1, &[channel; 10]),
        result,
        at: fleet.clock.now(),
        attempts: 3,
        problem: Some(Problem::new(Code::ChannelUnreachable, "Nothing\u{202e} answers.")),
    }
}

#[tokio::test]
async fn an_alarm_and_what_became_of_it_are_kept_once_and_belong_to_their_machine() {
    let fleet = Fleet::start().await;
    let (mut agent, mut other) = (fleet.agent("box").await, fleet.agent("other").await);
    let (mut link, _) = agent.connect().await;
    let alarm = raised(1, &fleet);
    for what in [
        FromAgent::AlarmRaised(alarm.clone()),
        FromAgent::AlarmRaised(AlarmRaised { state: AlarmState::Overdue, ..alarm }),
        FromAgent::AlarmDelivered(delivered(1, 1, DeliveryResult::Sent, &fleet)),
        FromAgent::AlarmDelivered(delivered(1, 2, DeliveryResult::GaveUp, &fleet)),
        FromAgent::AlarmDelivered(delivered(1, 1, DeliveryResult::GaveUp, &fleet)),
    ] {
        let frame = agent.journal.push(&what);
        link.send_frame(&frame).await;
        link.until_acked(frame.seq.unwrap()).await;
    }
    let (mut stranger, _) = other.connect().await;
    let frame = other.journal.push(&FromAgent::AlarmRaised(raised(1, &fleet)));
    stranger.send_frame(&frame).await;
    let told = FromAgent::AlarmDelivered(delivered(1, 2, DeliveryResult::Sent, &fleet));
    let frame = other.journal.push(&told);
    stranger.send_frame(&frame).await;
    stranger.until_acked(frame.seq.unwrap()).await;

    let mut reader = fleet.db().read().acquire().await.unwrap();
    let kept = alarms::list(&mut reader, None, 10).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].host_id, kept[0].state), (agent.host(), AlarmState::Failed));
    assert!(kept[0].at <= fleet.clock.now(), "a clock that ran ahead is not believed");
    let results: Vec<_> = kept[0].deliveries.iter().map(|it| it.result).collect();
    assert_eq!(results, [Some(DeliveryResult::Sent), Some(DeliveryResult::GaveUp)]);
    assert_eq!(kept[0].deliveries[1].message.as_deref(), Some("Nothing answers."));
    assert!(alarms::list(&mut reader, Some(other.host()), 10).await.unwrap().is_empty());
    let open = notices::list_open(fleet.db().read()).await.unwrap();
    let codes: Vec<Code> = open.iter().map(|notice| notice.code).collect();
    assert_eq!(codes, [Code::ChannelUnreachable], "what did not go out needs a person");
}
