//! A TCP proxy on loopback whose connections can be cut, slowed down, or left hanging.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{broker::Broker, wait};

/// What becomes of what passes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// It passes.
    Clear,
    /// It passes in small pieces, each a little late.
    Slow,
    /// It stays where it is, on connections that look alive.
    Hanging,
    /// Connections end, and new ones with them.
    Cut,
}

const LINES: [Line; 4] = [Line::Clear, Line::Slow, Line::Hanging, Line::Cut];
/// How late a piece is on a slow line, and how large it may be.
const LATE: Duration = Duration::from_millis(15);
const PIECE: usize = 4 << 10;

#[derive(Debug, Default)]
struct Shared {
    line: AtomicU8,
    ended: AtomicBool,
    /// Connections taken in all.
    taken: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Shared {
    fn line(&self) -> Line {
        LINES[usize::from(self.line.load(Ordering::SeqCst)) % LINES.len()]
    }

    fn hang_up(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

/// A proxy in front of a broker.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens where the broker tells those who come through it to come back. One for each broker.
    #[must_use]
    pub fn start(broker: &Broker) -> Self {
        let (behind, port) = broker.behind();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the proxy's port is free");
        listener.set_nonblocking(true).expect("a listener can be asked");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            while !accepting.ended.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => connect(&accepting, stream, behind),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => wait::tick(),
                    Err(error) => panic!("the proxy cannot listen: {error}"),
                }
            }
        });
        Self {
            address: format!("127.0.0.1:{port}"),
            shared,
        }
    }

    /// For `bootstrap.servers`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How many connections there have been.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.taken.load(Ordering::SeqCst)
    }

    /// From now on.
    pub fn turn(&self, line: Line) {
        let at = LINES.iter().position(|known| *known == line).unwrap_or_default();
        self.shared
            .line
            .store(u8::try_from(at).unwrap_or_default(), Ordering::SeqCst);
        if line == Line::Cut {
            self.shared.hang_up();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.hang_up();
    }
}

fn connect(shared: &Arc<Shared>, near: TcpStream, port: u16) {
    if shared.line() == Line::Cut {
        return;
    }
    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return;
    };
    shared.taken.fetch_add(1, Ordering::SeqCst);
    for stream in [&near, &far] {
        stream.set_nonblocking(false).ok();
        stream.set_nodelay(true).ok();
    }
    let clone = |stream: &TcpStream| stream.try_clone().expect("a socket can be shared");
    let pairs = [(clone(&near), clone(&far)), (clone(&far), clone(&near))];
    shared
        .open
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .extend([near, far]);
    for (from, to) in pairs {
        let shared = Arc::clone(shared);
        thread::spawn(move || pump(&shared, from, to));
    }
}

fn pump(shared: &Shared, mut from: TcpStream, mut to: TcpStream) {
    let mut piece = [0; PIECE];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        while shared.line() == Line::Hanging && !shared.ended.load(Ordering::SeqCst) {
            wait::tick();
        }
        if shared.line() == Line::Slow {
            wait::pause(LATE);
        }
        if shared.line() == Line::Cut || to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}
