//! Tries a store as the program uses it, so that an address and its credentials can be tried before they are relied on:
//! `cargo run -p suture-store --features s3 --example exercise -- s3://bucket/prefix [SIZE]`. Everything it writes lies
//! below `exercise/` and is deleted again.

use std::{process::ExitCode, time::Instant};

use suture_runtime::Objects;
use suture_store::Store;

fn exercise(address: &str, size: usize) -> Result<(), String> {
    let store = Store::open(address, std::env::vars()).map_err(|error| error.to_string())?;
    let said = |error: suture_runtime::ObjectsError| error.to_string();
    let expect = |what: &str, holds: bool| match holds {
        true => {
            println!("ok: {what}");
            Ok(())
        }
        false => Err(format!("not so: {what}")),
    };
    let piece: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
    let name = |part: &str| format!("exercise/in/0/0-7/{part}");
    let began = Instant::now();
    store.put(&name("0"), piece.clone()).map_err(said)?;
    println!("wrote {size} bytes in {:?}", began.elapsed());
    store.put(&name("manifest"), b"first".to_vec()).map_err(said)?;
    store.put(&name("manifest"), b"second".to_vec()).map_err(said)?;
    store
        .put("exercise/in/00/0-7/0", b"another shard's".to_vec())
        .map_err(said)?;
    let began = Instant::now();
    let read = store.get(&name("0")).map_err(said)?;
    println!("read it in {:?}", began.elapsed());
    expect("what was written is read", read == Some(piece))?;
    let manifest = store.get(&name("manifest")).map_err(said)?;
    expect("the last that was written counts", manifest == Some(b"second".to_vec()))?;
    expect(
        "a missing object is none",
        store.get(&name("1")).map_err(said)?.is_none(),
    )?;
    let mut listed = store.list("exercise/in/0/").map_err(said)?;
    listed.sort();
    expect(
        "a shard's objects are listed, and no other's",
        listed == [name("0"), name("manifest")],
    )?;
    store.delete(&[name("0"), name("missing")]).map_err(said)?;
    let listed = store.list("exercise/in/0/").map_err(said)?;
    expect(
        "what is deleted is gone, and what was not there is no error",
        listed == [name("manifest")],
    )?;
    store
        .delete(&[name("manifest"), "exercise/in/00/0-7/0".to_owned()])
        .map_err(said)?;
    expect("nothing is left", store.list("exercise/").map_err(said)?.is_empty())
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_default();
    let size = arguments.next().and_then(|size| size.parse().ok()).unwrap_or(1_000_000);
    match exercise(&address, size) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
