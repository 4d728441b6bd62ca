//! How much of what is waiting to be stored one machine may bring.

use super::*;
use jiff::Timestamp;
use protocol::{
    Frame, LogLine, LogStream, RunId,
    journal::{ElidedLines, JournalElided},
};

/// How many of these records are taken before their session has to wait.
fn taken(content: &FromAgent) -> usize {
    let (handle, _intake) = IntakeHandle::new();
    let host = HostId::new(1, &[1; 10]);
    let (lane, _progress) = handle.lane(host, Some(JournalId::new(1, &[1; 10])));
    let frame = content.encode().unwrap();
    let record = Record { seq: 1, hash: ChainHash::START, frame };
    (0..QUEUE).take_while(|_| lane.record(record.clone()).now_or_never().is_some()).count()
}

/// Hands so many records over.
async fn hand_over(lane: &Lane, records: usize) {
    let frame = Frame::new(kind::LOG_STREAM, &()).unwrap();
    for _ in 0..records {
        let record = Record { seq: 1, hash: ChainHash::START, frame: frame.clone() };
        assert!(lane.record(record).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_waits_for_as_long_as_many_records_come_and_no_longer() {
    let (handle, mut intake) = IntakeHandle::new();
    let host = HostId::new(1, &[1; 10]);
    let (lane, _progress) = handle.lane(host, Some(JournalId::new(1, &[1; 10])));
    let lane = &lane;
    let come = |each: &'static [usize]| async move {
        tokio::time::sleep(GATHER_FOR / 2).await;
        for records in each {
            hand_over(lane, *records).await;
            tokio::time::sleep(GATHER_FOR).await;
        }
    };
    let mut batch = Vec::new();
    tokio::join!(come(&[3, 0]), intake.gather(&mut batch));
    assert_eq!(batch.len(), 3, "few");
    let mut many = Vec::new();
    tokio::join!(come(&[MANY, MANY, 1, MANY]), intake.gather(&mut many));
    assert_eq!(many.len(), 2 * MANY + 1, "many until few came");
    assert_eq!(intake.waiting(), MANY);
}

#[test]
fn what_takes_long_to_store_makes_its_sender_wait_sooner() {
    let (job_id, ts) = (RunId::new(1, &[1; 10]), Timestamp::UNIX_EPOCH);
    let payload = "a line of a log".to_owned();
    let line = LogLine { job_id, seq: 1, ts, stream: LogStream::Stdout, payload };
    assert_eq!(taken(&FromAgent::LogLine(line)), QUEUE);
    let lines = ElidedLines { job_id, first_line: 1, last_line: 1 };
    let runs = vec![lines; JournalElided::MAX_RUNS];
    let many = taken(&FromAgent::JournalElided(JournalElided { first_seq: 1, ts, runs }));
    assert!((10..QUEUE / 8).contains(&many), "{many} that name 64 ranges each");
    let one = JournalElided::line(job_id, 1, 1, ts);
    assert!(
        taken(&FromAgent::JournalElided(one)) > QUEUE / 4,
        "one is nothing out of the ordinary"
    );
}
