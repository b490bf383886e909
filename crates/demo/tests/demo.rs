//! The demo from end to end: the log in memory, both planes, the executor and the shop, in this process.

use suture_demo::{Mode, Options, perform};

#[test]
fn what_breaks_is_found_blamed_and_healed() {
    let performance = perform(&Options {
        seed: 3,
        faults: 2,
        keep: false,
        mode: Mode::Quiet,
        speed: None,
        learn: 1,
        picture: true,
        web: None,
        tokens: None,
    })
    .unwrap();
    let table = performance.table;
    assert!(performance.over);
    assert_eq!(
        (table.rows.len(), table.found(), table.blamed_right(), table.healed()),
        (2, 2, 2, 2),
        "{}",
        table.text()
    );
    assert_eq!((table.false_incidents, table.needless), (0, 0), "{}", table.text());
    assert!(
        table.rows.iter().all(|row| row.recovered_at.is_some()),
        "{}",
        table.text()
    );
    assert!(performance.picture.unwrap().contains("bad deploy"));
}
