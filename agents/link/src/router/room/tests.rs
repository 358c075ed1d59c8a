use super::*;
use crate::testing::command;
use proptest::prelude::*;

fn vm(n: u128) -> ObjectId {
    ObjectId::new(Kind::Vm, uuid::Uuid::from_u128(n))
}

fn of(session: &str, n: u128, object: ObjectId) -> Command {
    Command { session: session.into(), ..command(n, "PowerOn", object) }
}

fn free(_: &str) -> Conflict {
    Conflict::Queue
}

/// Takes on commands of a session, each at a machine of its own, until it is refused.
fn fill(room: &Arc<Room>, session: &str, from: u128) -> Vec<Place> {
    (from..).map_while(|n| room.enter(&of(session, n, vm(n)), false, free).ok()).collect()
}

#[test]
fn a_session_alone_has_two_thirds_and_there_is_room_for_another() {
    let room = Room::new(90);
    let first = fill(&room, "a", 0);
    assert_eq!(first.len(), 60);
    let second = fill(&room, "b", 1_000);
    assert_eq!(second.len(), 20);
    let mut others: Vec<Place> = Vec::new();
    for n in 0..10 {
        others.push(room.enter(&of(&format!("c{n}"), 2_000 + n, vm(2_000 + n)), false, free).unwrap());
    }
    let refused = room.enter(&of("d", 3_000, vm(3_000)), false, free).unwrap_err();
    assert_eq!((refused.code, refused.message.contains("90 commands are")), (Code::Busy, true));
    drop((first, second, others));
    let under = room.under.lock();
    assert_eq!((under.all, under.sessions.len(), under.machines.len()), (0, 0, 0));
}

#[test]
fn what_the_conflict_table_refuses_is_refused_before_it_is_anything() {
    let room = Room::new(8);
    let refuses = |running: &str| match running {
        "PowerOn" => Conflict::Refuse("TheFault".into()),
        _ => Conflict::Queue,
    };
    let place = room.enter(&of("a", 1, vm(9)), false, refuses).unwrap();
    let refused = room.enter(&of("b", 2, vm(9)), false, refuses).unwrap_err();
    assert_eq!((refused.code, &*refused.fault), (Code::InProgress, "TheFault"));
    let over = room.enter(&of("b", 3, vm(9)), false, |_| Conflict::Overtake).unwrap();
    drop(place);
    // The one that overtook is there still.
    assert!(room.enter(&of("a", 4, vm(9)), false, refuses).is_err());
    drop(over);
    assert!(room.enter(&of("a", 5, vm(9)), false, refuses).is_ok());
}

#[test]
fn a_folder_takes_in_several() {
    let room = Room::new(8);
    let folder = ObjectId::new(Kind::Folder, uuid::Uuid::from_u128(1));
    let refuses = |_: &str| Conflict::Refuse("TheFault".into());
    let _first = room.enter(&of("a", 1, folder), false, refuses).unwrap();
    assert!(room.enter(&of("a", 2, folder), false, refuses).is_ok());
}

proptest! {
    #[test]
    fn counts_are_right(steps in prop::collection::vec((0u8..4, any::<bool>()), 0..200)) {
        let room = Room::new(12);
        let mut held: Vec<(u8, Place)> = Vec::new();
        for (n, (who, comes)) in steps.into_iter().enumerate() {
            let mine = held.iter().filter(|(w, _)| *w == who).count();
            if comes {
                let place = room.enter(&of(&who.to_string(), n as u128, vm(n as u128)), false, free);
                prop_assert_eq!(place.is_ok(), held.len() < 12 && mine < SHARE * (12 - held.len()));
                held.extend(place.ok().map(|place| (who, place)));
            } else if let Some(at) = held.iter().position(|(w, _)| *w == who) {
                held.remove(at);
            }
            prop_assert_eq!(room.under.lock().all, held.len());
        }
    }
}
