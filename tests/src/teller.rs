//! An agent's side of the link for many agents, or for much to tell: a journal that is written
//! beforehand and told as fast as the manager takes it, and what a machine remembers of its manager
//! when it comes back.

use crate::puppet::{Machine, Socket, read};
use anyhow::{Context as _, Result, bail};
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use jiff::Timestamp;
use protocol::{
    Frame, FromAgent, JournalId, JournalState, Secret, SeenManager, TicketConfirm, ToAgent,
    journal::ChainHash,
};
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

/// Where the machines are: where each day has as many hours as any other.
pub const ZONE: &str = "UTC";

/// What a machine keeps: its journal, and what it knows of the manager.
#[derive(Debug)]
pub struct Teller {
    id: JournalId,
    /// The records 1, 2, 3, …, as they go over the wire.
    records: Vec<Utf8Bytes>,
    hash: ChainHash,
    acked: u64,
    ticket: Option<Secret<String>>,
    manager: Option<SeenManager>,
    /// The desired state that it has applied.
    pub generation: u64,
    /// Since when it is awake.
    pub awake_since: Option<Timestamp>,
}

impl Teller {
    /// A machine with an empty journal that has never met a manager.
    ///
    /// # Errors
    /// When the operating system has no random numbers.
    pub fn new() -> Result<Self> {
        let mut id = [0; 10];
        getrandom::fill(&mut id).ok().context("the operating system has no random numbers")?;
        Ok(Self {
            id: JournalId::new(1, &id),
            records: Vec::new(),
            hash: ChainHash::START,
            acked: 0,
            ticket: None,
            manager: None,
            generation: 0,
            awake_since: None,
        })
    }

    /// Writes something durable into the journal, and returns its number.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn record(&mut self, content: &FromAgent) -> Result<u64> {
        let mut frame = content.encode()?;
        let seq = self.head() + 1;
        self.hash = self.hash.next(seq, &frame.kind, frame.payload.get());
        (frame.seq, frame.hash) = (Some(seq), Some(self.hash));
        self.records.push(frame.encode()?.into());
        Ok(seq)
    }

    /// Forgets that a manager was ever met, and keeps the journal.
    pub fn forget_manager(&mut self) {
        (self.acked, self.ticket, self.manager) = (0, None, None);
    }

    /// The number of the newest record.
    #[must_use]
    pub fn head(&self) -> u64 {
        u64::try_from(self.records.len()).unwrap_or(u64::MAX)
    }

    /// Its records as they go over the wire.
    #[must_use]
    pub fn records(&self) -> &[Utf8Bytes] {
        &self.records
    }

    fn journal(&self) -> JournalState {
        JournalState {
            id: self.id,
            first: 1,
            base_hash: ChainHash::START,
            head: self.head(),
            head_hash: self.hash,
            acked: self.acked,
        }
    }

    /// Connects this machine and says hello; it is welcome, and has kept its ticket.
    ///
    /// # Errors
    /// When the manager refuses, or holds the machine.
    pub async fn connect(&mut self, machine: &Machine) -> Result<Link> {
        let (mut sink, mut stream) = machine.socket().await?.split();
        let mut hello = machine.hello(self.journal());
        (hello.ticket, hello.manager) = (self.ticket.clone(), self.manager);
        hello.awake_since = self.awake_since;
        hello.time_zone = Some(ZONE.to_owned());
        say(&mut sink, &FromAgent::Hello(Box::new(hello))).await?;
        let (_, answer) = hear(&mut stream).await?;
        let ToAgent::Welcome(welcome) = answer else {
            bail!("the manager did not welcome the machine: {answer:?}");
        };
        if welcome.hold.is_some() || welcome.renew_journal.is_some() {
            bail!("the manager does not take the machine as it is: {welcome:?}");
        }
        self.acked = welcome.cursor.map_or(0, |cursor| cursor.seq);
        let incarnation = welcome.manager.incarnation;
        let generation = self.generation;
        self.manager = Some(SeenManager { incarnation, command: 0, generation });
        if let Some(ticket) = welcome.ticket {
            self.ticket = Some(ticket.clone());
            say(&mut sink, &FromAgent::TicketConfirm(TicketConfirm { ticket })).await?;
        }
        Ok(Link { sink, stream })
    }
}

/// A connection that was welcomed. Dropped, it hangs up.
#[derive(Debug)]
pub struct Link {
    sink: SplitSink<Socket, Message>,
    stream: SplitStream<Socket>,
}

impl Link {
    /// Tells all records that the manager does not have yet, each in a message of its own and several of
    /// them in one write as the agent does, and waits until all are acknowledged.
    ///
    /// # Errors
    /// When the connection ends before.
    pub async fn tell(&mut self, teller: &mut Teller) -> Result<()> {
        let from = usize::try_from(teller.acked)?;
        let head = teller.head();
        let told = async {
            for record in &teller.records[from..] {
                self.sink.feed(Message::Text(record.clone())).await?;
            }
            anyhow::Ok(self.sink.flush().await?)
        };
        let acknowledged = async {
            let mut acked = teller.acked;
            while acked < head {
                let (frame, _) = hear(&mut self.stream).await?;
                acked = acked.max(frame.ack.unwrap_or(0));
            }
            anyhow::Ok(())
        };
        tokio::try_join!(told, acknowledged)?;
        teller.acked = head;
        Ok(())
    }

    /// Waits until the manager has dealt with everything that was said so far.
    ///
    /// # Errors
    /// When the connection ends before.
    pub async fn settle(&mut self) -> Result<()> {
        self.sink.send(Message::Ping(Bytes::new())).await?;
        loop {
            match self.stream.next().await.context("the manager hung up")?? {
                Message::Pong(_) => return Ok(()),
                Message::Close(frame) => bail!("the manager hung up: {frame:?}"),
                Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Frame(_) => {}
            }
        }
    }
}

async fn say(sink: &mut SplitSink<Socket, Message>, content: &FromAgent) -> Result<()> {
    Ok(sink.send(Message::text(content.encode()?.encode()?)).await?)
}

async fn hear(stream: &mut SplitStream<Socket>) -> Result<(Frame, ToAgent)> {
    while let Some(message) = stream.next().await {
        if let Some((frame, message)) = read(message?)? {
            if let ToAgent::Refused(refused) = &message {
                bail!("the manager refused the machine: {:?}", refused.0);
            }
            return Ok((frame, message));
        }
    }
    bail!("the manager hung up")
}
