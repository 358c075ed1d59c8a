use super::super::room::Place;
use super::*;
use crate::testing::{command, vm};
use lane::Conflict;
use proptest::prelude::*;
use union::{Command, command::Code};

const INTIME: Duration = Duration::from_millis(1);
const LATE: Duration = Duration::from_millis(100);

/// One that refuses whatever is beyond `whole`, with its pulse.
fn rooms(whole: usize) -> (Arc<Room>, Arc<Pulse>) {
    let room = Room::new(whole);
    let pulse = Pulse::new([Arc::clone(&room), Room::new(whole)]);
    (room, pulse)
}

/// A place for a command of a session of its own.
fn enter(room: &Arc<Room>, pulse: &Pulse, n: u128) -> Option<Place> {
    let asked = Command { session: format!("s{n}").into(), ..command(n, "PowerOn", vm(n)) };
    match room.enter(&asked, pulse.is_overdue(), |_| Conflict::Queue) {
        Ok(place) => Some(place),
        Err(cause) => {
            assert_eq!(cause.code, Code::Busy);
            None
        }
    }
}

fn fill(room: &Arc<Room>, pulse: &Pulse, from: u128) -> Vec<Place> {
    (from..).map_while(|n| enter(room, pulse, n)).collect()
}

#[test]
fn who_is_late_takes_on_fewer_and_more_again_when_in_time() {
    let (room, pulse) = rooms(400);
    let mut held = fill(&room, &pulse, 0);
    assert_eq!(held.len(), 400);
    // One late beat among many is nobody's fault.
    pulse.beat(limits::LATE * 2);
    assert!(room.is_whole());
    pulse.beat(LATE);
    pulse.beat(LATE);
    held.truncate(250);
    assert!(enter(&room, &pulse, 1_000).is_none(), "two beats: no more than 225 of 400");
    held.truncate(200);
    held.extend(fill(&room, &pulse, 1_000));
    assert!(held.len() <= 225, "{}", held.len());
    let before = held.len();
    // It comes back by itself.
    for _ in 0..48 {
        pulse.beat(INTIME);
    }
    held.extend(fill(&room, &pulse, 2_000));
    assert!(held.len() > before && held.len() < 400, "{}", held.len());
    for _ in 0..200 {
        pulse.beat(INTIME);
    }
    assert!(room.is_whole());
}

#[test]
fn few_are_taken_on_however_late_it_is() {
    let (room, pulse) = rooms(1_024);
    for _ in 0..1_000 {
        pulse.beat(LATE);
    }
    assert_eq!(fill(&room, &pulse, 0).len(), limits::FLOOR);
    // A room that is smaller than the floor stays as it is.
    let (small, pulse) = rooms(8);
    for _ in 0..1_000 {
        pulse.beat(LATE);
    }
    assert_eq!(fill(&small, &pulse, 0).len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_missing_beat_counts_before_it_comes() {
    let (room, pulse) = rooms(400);
    let mut held = fill(&room, &pulse, 0);
    held.truncate(200);
    // As when every turn is another's: it is due, and does not come.
    pulse.state.lock().due = Some(Instant::now());
    tokio::time::advance(limits::LATE).await;
    assert!(!pulse.is_overdue() && enter(&room, &pulse, 1_000).is_some());
    tokio::time::advance(limits::PULSE).await;
    assert!(pulse.is_overdue() && enter(&room, &pulse, 1_001).is_none());
    assert!(pulse.next().is_some() && !pulse.is_overdue());
    assert!(enter(&room, &pulse, 1_002).is_some());
}

#[tokio::test(start_paused = true)]
async fn the_first_beat_is_counted_from_when_it_was_due() {
    let (room, pulse) = rooms(400);
    let _held = fill(&room, &pulse, 0);
    pulse.feel();
    tokio::time::advance(limits::PULSE + limits::LATE * 8).await;
    tokio::task::yield_now().await;
    assert_eq!(pulse.state.lock().late, limits::LATE * 4);
    pulse.beat(LATE);
    assert!(!room.is_whole());
    tokio::time::sleep(limits::PULSE * 400).await;
    assert!(room.is_whole());
}

#[tokio::test(start_paused = true)]
async fn it_beats_only_while_many_are_under_way() {
    let (room, pulse) = rooms(400);
    let beats = |pulse: &Pulse| pulse.state.lock().due.is_some();
    let few: Vec<_> = (0..limits::FLOOR as u128).filter_map(|n| enter(&room, &pulse, n)).collect();
    pulse.feel();
    assert!(!beats(&pulse));
    let more = enter(&room, &pulse, 1_000).unwrap();
    pulse.feel();
    assert!(beats(&pulse));
    tokio::time::sleep(limits::PULSE * 100).await;
    assert!(beats(&pulse) && room.is_whole());
    drop((few, more));
    tokio::time::sleep(limits::PULSE * 2).await;
    assert!(!beats(&pulse));
    assert_eq!(Arc::strong_count(&pulse), 1);
    let again = fill(&room, &pulse, 2_000);
    pulse.feel();
    assert!(beats(&pulse) && again.len() == 400);
}

proptest! {
    #[test]
    fn it_stays_within_its_bounds(beats in prop::collection::vec(0u64..80, 0..300), whole in 1usize..600) {
        let (room, pulse) = rooms(whole);
        let held = fill(&room, &pulse, 0);
        prop_assert_eq!(held.len(), whole);
        for late in beats {
            pulse.beat(Duration::from_millis(late));
        }
        drop(held);
        let most = fill(&room, &pulse, 10_000).len();
        prop_assert!(most <= whole && most >= whole.min(limits::FLOOR), "{}", most);
    }
}
