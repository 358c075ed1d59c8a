//! Losses, limits, refusals and outages: always seen, never hung.

use std::time::Duration;

use bus::limits::MAX_PAYLOAD;
use bus::{BusError, Delivery, Headers, Link, Subject};
use bytes::Bytes;

use crate::bed::{Bed, LONG, SHORT, pattern, subject, text};

pub async fn a_slow_subscription_sees_its_losses(bed: &Bed) {
    let bus = bed.connect().await;
    let mut slow = bus.subscribe(&pattern("task.>"), 8).await.unwrap();
    let sent = 1000;
    for n in 0..sent {
        bus.publish(&subject("1"), Headers::new(), text(&n.to_string())).await.unwrap();
    }
    bus.flush().await.unwrap();
    tokio::time::sleep(SHORT).await;
    let (mut next, mut lost) = (0, 0);
    while next < sent {
        match slow.next().await.unwrap() {
            Delivery::Message(message) => {
                assert_eq!(message.payload, text(&next.to_string()), "a loss is told where it happened");
                next += 1;
            }
            Delivery::Lagged(n) => {
                lost += n;
                next += n;
            }
        }
    }
    assert!(lost > 0 && next == sent, "{lost} of {sent} lost, read up to {next}");
}

pub async fn a_full_server_answers_busy(bed: &Bed) {
    let bus = bed.connect().await;
    let mut server = bus.serve(&pattern("task.lab1.*"), 2).await.unwrap();
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let bus = bus.clone();
        asked.spawn(async move { bus.request(&subject("1"), Headers::new(), text(""), LONG).await });
    }
    for _ in 0..8 {
        assert_eq!(asked.join_next().await.unwrap().unwrap(), Err(BusError::Busy));
    }
    server.next().await.unwrap().reply(Headers::new(), text("")).await.unwrap();
    assert!(asked.join_next().await.unwrap().unwrap().is_ok());
    server.next().await.unwrap().refuse_busy().await.unwrap();
    assert_eq!(asked.join_next().await.unwrap().unwrap(), Err(BusError::Busy));
}

pub async fn an_unanswered_request_times_out_and_leaves_nothing(bed: &Bed) {
    let bus = bed.connect().await;
    let mut server = bus.serve(&pattern("task.lab1.*"), 1000).await.unwrap();
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let bus = bus.clone();
        asked.spawn(async move { bus.request(&subject("1"), Headers::new(), text(""), SHORT).await });
    }
    while let Some(answer) = asked.join_next().await {
        assert_eq!(answer.unwrap(), Err(BusError::Timeout));
    }
    assert_eq!(bus.status().pending, 0);
    for _ in 0..500 {
        let request = server.next().await.unwrap();
        request.reply(Headers::new(), text("too late")).await.unwrap();
    }
    let asking = bus.clone();
    let again =
        tokio::spawn(async move { asking.request(&subject("1"), Headers::new(), text(""), LONG).await });
    server.next().await.unwrap().reply(Headers::new(), text("in time")).await.unwrap();
    assert_eq!(again.await.unwrap().unwrap().payload, text("in time"));
}

pub async fn an_abandoned_request_leaves_nothing(bed: &Bed) {
    let bus = bed.connect().await;
    let mut server = bus.serve(&pattern("task.lab1.*"), 4).await.unwrap();
    let asking = bus.clone();
    let asked =
        tokio::spawn(async move { asking.request(&subject("1"), Headers::new(), text(""), LONG).await });
    drop(server.next().await.unwrap());
    assert_eq!(bus.status().pending, 1, "nobody answers a dropped request");
    asked.abort();
    assert!(asked.await.unwrap_err().is_cancelled());
    assert_eq!(bus.status().pending, 0);
}

pub async fn a_denied_request_fails_at_once(bed: &Bed) {
    let bus = bed.connect().await;
    let _deaf = bus.serve(&pattern("cmd.lab1.>"), 4).await.unwrap();
    let monitor = bed.connect_monitor().await;
    let command = Subject::cmd("lab1", "vm", "power_off").unwrap();
    for _ in 0..2 {
        let answer = monitor.request(&command, Headers::new(), text(""), LONG).await;
        assert_eq!(answer, Err(BusError::Denied { subject: command.to_string() }));
    }
    assert_eq!(monitor.status().pending, 0);
}

pub async fn a_denied_publish_is_told(bed: &Bed) {
    let (bus, monitor) = (bed.connect().await, bed.connect_monitor().await);
    let mut heard = monitor.subscribe(&pattern("event.>"), 4).await.unwrap();
    let event = Subject::event("lab1", "vm", "1", "powered_on").unwrap();
    let denied = Err(BusError::Denied { subject: event.to_string() });
    if monitor.publish(&event, Headers::new(), text("forged")).await.is_ok() {
        assert_eq!(monitor.flush().await, denied);
        assert_eq!(monitor.flush().await, Ok(()), "told once");
    }
    assert_eq!(monitor.publish(&event, Headers::new(), text("forged")).await, denied);
    bus.publish(&event, Headers::new(), text("true")).await.unwrap();
    assert_eq!(heard.next().await.unwrap().message().unwrap().payload, text("true"));
}

pub async fn a_denied_subscription_fails(bed: &Bed) {
    let monitor = bed.connect_monitor().await;
    let denied = |subject: &str| BusError::Denied { subject: subject.into() };
    assert_eq!(monitor.subscribe(&pattern("cmd.>"), 4).await.err(), Some(denied("cmd.>")));
    assert_eq!(monitor.subscribe(&pattern(">"), 4).await.err(), Some(denied(">")));
    assert_eq!(monitor.serve(&pattern("agent.*.*.x"), 4).await.err(), Some(denied("agent.*.*.x")));
    monitor.subscribe(&pattern("metric.lab1.>"), 4).await.unwrap();
}

pub async fn too_large_is_refused_both_ways(bed: &Bed) {
    let bus = bed.connect().await;
    let mut server = bus.serve(&pattern("task.lab1.*"), 4).await.unwrap();
    let (fits, too_large) = (Bytes::from(vec![0; MAX_PAYLOAD]), Bytes::from(vec![0; MAX_PAYLOAD + 1]));
    let refused = BusError::TooLarge { size: MAX_PAYLOAD + 1, max: MAX_PAYLOAD };
    assert_eq!(bus.publish(&subject("1"), Headers::new(), too_large.clone()).await, Err(refused.clone()));
    let answer = bus.request(&subject("1"), Headers::new(), too_large.clone(), LONG).await;
    assert_eq!(answer, Err(refused.clone()));
    let headers = Headers::new().with("a", "b").unwrap();
    let answer = bus.publish(&subject("1"), headers, fits.clone()).await;
    assert!(matches!(answer, Err(BusError::TooLarge { .. })), "headers count");

    for (reply, outcome) in [(too_large, Err(refused.clone())), (fits.clone(), Ok(()))] {
        let (asking, question) = (bus.clone(), fits.clone());
        let asked =
            tokio::spawn(async move { asking.request(&subject("1"), Headers::new(), question, LONG).await });
        let request = server.next().await.unwrap();
        assert_eq!(request.message.payload.len(), MAX_PAYLOAD);
        assert_eq!(request.reply(Headers::new(), reply).await, outcome);
        assert_eq!(asked.await.unwrap().map(drop), outcome);
    }
}

pub async fn an_outage_fails_requests_at_once_and_heals(bed: &Bed) {
    let (bus, other) = (bed.connect().await, bed.connect().await);
    let mut server = other.serve(&pattern("task.lab1.*"), 4).await.unwrap();
    let mut heard = bus.subscribe(&pattern("event.>"), 64).await.unwrap();
    let asking = bus.clone();
    let asked =
        tokio::spawn(async move { asking.request(&subject("1"), Headers::new(), text(""), LONG).await });
    let unanswered = server.next().await.unwrap();
    bed.break_link();
    assert_eq!(asked.await.unwrap(), Err(BusError::Disconnected));
    assert_eq!(bus.status().pending, 0);
    drop(unanswered);

    bed.mend_link(bus.as_ref()).await;
    bed.mend_link(other.as_ref()).await;
    assert_eq!(heard.next().await, Some(Delivery::Lagged(0)), "an outage may have swallowed messages");
    let event = Subject::event("lab1", "vm", "1", "powered_on").unwrap();
    // What is published before the subscription has been renewed reaches nobody: it is said until it is heard.
    let teller = other.clone();
    let telling = tokio::spawn(async move {
        loop {
            teller.publish(&event, Headers::new(), text("after")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(heard.next().await.unwrap().message().unwrap().payload, text("after"));
    telling.abort();
    let answering = tokio::spawn(async move {
        while let Some(request) = server.next().await {
            request.reply(Headers::new(), text("again")).await.unwrap();
        }
    });
    let answer = loop {
        match bus.request(&subject("1"), Headers::new(), text(""), LONG).await {
            // The server's subscription has not been renewed yet.
            Err(BusError::NoResponders) => tokio::time::sleep(Duration::from_millis(5)).await,
            answer => break answer.unwrap(),
        }
    };
    assert_eq!(answer.payload, text("again"));
    assert_eq!(bus.status().link, Link::Connected);
    answering.abort();
}
