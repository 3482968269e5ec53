//! Meters: what is counted, what is not, and what waits for the next reading.

use proptest::prelude::*;
use roadstead_core::{Meter, Sighting, ports::Usage};
use roadstead_types::{Resource, Resources, Timestamp};

use crate::fixture::{READY, at};

const RESERVED: Resources<u64> = Resources {
    cpu: 100,
    memory: 10,
    storage: 20,
    network_in: 1_000,
    network_out: 500,
    accelerator: 3,
};

fn cpu(cpu: u64) -> Usage {
    Usage { cpu: Some(cpu), ..Usage::default() }
}

fn see(meter: &mut Meter, seconds: u32, sighting: Sighting) {
    meter.see(at(seconds), sighting, &RESERVED);
}

fn total(meter: &mut Meter, seconds: u32) -> Resources<u64> {
    meter.read(at(seconds), &RESERVED).unwrap().total
}

#[test]
fn counters_are_read_and_what_is_reserved_is_timed() {
    let mut meter = Meter::starting_at(READY);
    let usage = Usage { cpu: Some(700), network_in: Some(9), network_out: Some(8) };
    see(&mut meter, 10, Sighting::Running(usage));
    let reading = meter.read(at(10), &RESERVED).unwrap();
    assert_eq!((reading.from, reading.to), (READY, at(10)));
    let expected = Resources {
        cpu: 700,
        memory: 100,
        storage: 200,
        network_in: 9,
        network_out: 8,
        accelerator: 30,
    };
    assert_eq!(reading.total, expected);
    assert_eq!(meter.read(at(10), &RESERVED), None);
    assert_eq!(meter.read(at(9), &RESERVED), None);
}

#[test]
fn what_is_above_the_bound_waits_for_later_readings() {
    let mut meter = Meter::starting_at(READY);
    see(&mut meter, 10, Sighting::Running(cpu(2_300)));
    assert_eq!(total(&mut meter, 10).cpu, 1_000);
    see(&mut meter, 20, Sighting::Running(cpu(2_300)));
    assert_eq!(total(&mut meter, 20).cpu, 2_000);
    see(&mut meter, 30, Sighting::Running(cpu(2_310)));
    assert_eq!(total(&mut meter, 30).cpu, 2_310);
}

#[test]
fn frozen_and_stopped_time_costs_nothing() {
    for idle in [Sighting::Frozen(cpu(50)), Sighting::Stopped(Some(cpu(50)))] {
        let mut meter = Meter::starting_at(READY);
        see(&mut meter, 10, Sighting::Running(cpu(50)));
        see(&mut meter, 11, idle);
        assert!(!meter.was_running());
        see(&mut meter, 1_000, idle);
        let counted = if matches!(idle, Sighting::Frozen(_)) { 50 } else { 0 };
        see(&mut meter, 2_000, Sighting::Running(cpu(counted)));
        see(&mut meter, 2_005, Sighting::Running(cpu(counted + 1)));
        let total = total(&mut meter, 2_005);
        assert_eq!((total.memory, total.storage, total.accelerator), (150, 300, 45), "{idle:?}");
        assert_eq!(total.cpu, 51, "{idle:?}");
    }
}

#[test]
fn what_was_used_before_freezing_counts() {
    let mut meter = Meter::starting_at(READY);
    see(&mut meter, 5, Sighting::Frozen(cpu(400)));
    assert_eq!(total(&mut meter, 10).cpu, 400);
}

#[test]
fn the_last_counters_of_a_life_count_once_however_often_they_are_seen() {
    let mut meter = Meter::starting_at(READY);
    for seconds in 1..5 {
        see(&mut meter, seconds, Sighting::Stopped(Some(cpu(40))));
    }
    see(&mut meter, 6, Sighting::Stopped(None));
    see(&mut meter, 7, Sighting::Running(cpu(5)));
    assert_eq!(total(&mut meter, 10).cpu, 45);
}

#[test]
fn counters_begin_anew_with_a_life_that_is_announced() {
    for is_seen in [false, true] {
        let mut meter = Meter::starting_at(READY);
        see(&mut meter, 5, Sighting::Running(cpu(300)));
        if is_seen {
            see(&mut meter, 6, Sighting::Stopped(None));
        } else {
            meter.restarted(at(6));
        }
        see(&mut meter, 8, Sighting::Running(cpu(120)));
        see(&mut meter, 10, Sighting::Running(cpu(130)));
        assert_eq!(total(&mut meter, 10).cpu, 430, "{is_seen}");
    }
}

#[test]
fn a_counter_that_falls_within_a_life_counts_again_only_above_where_it_was() {
    let usage = |cpu, network_in| Usage { cpu: Some(cpu), network_in, network_out: None };
    let mut meter = Meter::starting_at(READY);
    see(&mut meter, 10, Sighting::Running(usage(300, Some(7_000))));
    // The fall of one says nothing about another.
    see(&mut meter, 20, Sighting::Running(usage(310, Some(0))));
    see(&mut meter, 30, Sighting::Running(usage(320, Some(6_999))));
    see(&mut meter, 40, Sighting::Frozen(usage(5, None)));
    see(&mut meter, 50, Sighting::Running(usage(330, Some(7_001))));
    let first = total(&mut meter, 60);
    assert_eq!((first.cpu, first.network_in), (330, 7_001));
    // The last counters of a life may be the wrong ones, too; the next life counts from zero nevertheless.
    see(&mut meter, 70, Sighting::Stopped(Some(usage(0, Some(0)))));
    see(&mut meter, 80, Sighting::Stopped(Some(usage(331, Some(7_002)))));
    meter.restarted(at(90));
    see(&mut meter, 100, Sighting::Running(usage(20, Some(30))));
    let second = total(&mut meter, 100);
    assert_eq!((second.cpu, second.network_in), (351, 7_032));
}

#[test]
fn a_counter_that_is_away_for_a_while_is_not_charged_twice() {
    let mut meter = Meter::starting_at(READY);
    see(&mut meter, 4, Sighting::Running(cpu(300)));
    see(&mut meter, 5, Sighting::Running(Usage::default()));
    see(&mut meter, 6, Sighting::Running(cpu(310)));
    assert_eq!(total(&mut meter, 10).cpu, 310);
}

#[test]
fn what_was_used_before_an_instance_is_adopted_is_not_charged() {
    let before = Resources { cpu: 40, memory: 7, ..Resources::default() };
    let mut meter = Meter::resuming(READY, before);
    assert!(!meter.was_running());
    see(&mut meter, 500, Sighting::Running(Usage { network_in: None, ..cpu(9_000) }));
    // A counter that appears later held something before.
    see(&mut meter, 501, Sighting::Running(Usage { network_in: Some(77), ..cpu(9_001) }));
    let total = total(&mut meter, 501);
    assert_eq!((total.cpu, total.memory, total.network_in), (41, 17, 0));
    // Of a new life all is known.
    let mut meter = Meter::resuming(READY, before);
    meter.restarted(at(10));
    see(&mut meter, 20, Sighting::Running(cpu(60)));
    assert_eq!(meter.read(at(20), &RESERVED).unwrap().total.cpu, 100);
}

#[test]
fn a_new_process_goes_on_where_the_meter_was_kept() {
    let mut meter = Meter::starting_at(READY);
    see(&mut meter, 10, Sighting::Running(cpu(100)));
    meter.read(at(10), &RESERVED).unwrap();
    let kept = serde_json::to_string(&meter).unwrap();
    see(&mut meter, 12, Sighting::Running(cpu(120)));
    let mut again: Meter = serde_json::from_str(&kept).unwrap();
    see(&mut again, 70, Sighting::Running(cpu(500)));
    let reading = again.read(at(70), &RESERVED).unwrap();
    assert_eq!((reading.from, reading.to), (at(10), at(70)));
    assert_eq!((reading.total.cpu, reading.total.memory), (500, 700));
}

#[test]
fn numbers_at_the_end_of_their_range_stop_there() {
    let most = Resources::from_fn(|_| u64::MAX);
    let mut meter = Meter::starting_at(Timestamp(0));
    let usage = Usage { cpu: Some(u64::MAX), network_in: Some(u64::MAX), network_out: None };
    meter.see(Timestamp(u32::MAX), Sighting::Running(usage), &most);
    let reading = meter.read(Timestamp(u32::MAX), &most).unwrap();
    assert_eq!((reading.total.cpu, reading.total.memory), (u64::MAX, u64::MAX));
}

proptest! {
    /// However an instance is seen: totals never fall, no interval grows by more than was reserved, intervals join, and
    /// over all nothing is charged that no counter showed, whatever wrong numbers below the right ones come in between.
    #[test]
    fn readings_are_within_the_reservation_and_within_the_counters(
        steps in prop::collection::vec((0u32..40, 0u64..3_000, 0u8..9, 0u64..100), 1..60),
    ) {
        let mut meter = Meter::starting_at(READY);
        let (mut now, mut counter, mut shown, mut running) = (0, 0, 0, 0);
        let (mut last, mut read_to) = (Resources::default(), READY);
        for (passed, growth, kind, percent) in steps {
            now += passed;
            running += u64::from(passed);
            counter += growth;
            match kind {
                0 => see(&mut meter, now, Sighting::Frozen(cpu(counter))),
                1 => {
                    see(&mut meter, now, Sighting::Stopped(Some(cpu(counter))));
                    shown += counter;
                    counter = 0;
                }
                2 => {
                    meter.restarted(at(now));
                    shown += counter;
                    counter = 0;
                }
                4 | 8 => see(&mut meter, now, Sighting::Running(cpu(counter * percent / 100))),
                _ => see(&mut meter, now, Sighting::Running(cpu(counter))),
            }
            if kind % 2 == 1 && let Some(reading) = meter.read(at(now), &RESERVED) {
                prop_assert_eq!(reading.from, read_to);
                let seconds = u64::from(reading.to.since(reading.from).0);
                for each in Resource::ALL {
                    let grown = reading.total.get(each).checked_sub(last.get(each)).unwrap();
                    prop_assert!(grown <= RESERVED.get(each) * seconds);
                }
                (last, read_to) = (reading.total, reading.to);
            }
        }
        prop_assert!(last.cpu <= shown + counter);
        prop_assert!(last.memory <= RESERVED.memory * running);
    }
}
