//! An access log in Apache's combined format, plain or gzipped, instead of made-up traffic.
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hll_lab::Outcome;
use postgres::Client;

/// One request of the log.
pub struct Event {
    address: String,
    time: String,
    url: String,
    status: u16,
}

/// Reads the whole log; lines in another format are counted and named, not silently dropped.
pub fn read(name: &str) -> Outcome<Vec<Event>> {
    let mut file = File::open(Path::new(name)).map_err(|e| format!("DEMO_INPUT={name}: {e}"))?;
    let mut magic = [0; 2];
    let zipped = file.read(&mut magic)? == 2 && magic == [0x1f, 0x8b];
    file.rewind()?;
    let reader: Box<dyn Read> =
        if zipped { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(file) };
    let (mut events, mut skipped) = (Vec::new(), 0);
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.map_err(|e| format!("DEMO_INPUT={name}: {e}"))?;
        match parse(&String::from_utf8_lossy(&line)) {
            Some(event) => events.push(event),
            None => skipped += 1,
        }
    }
    if events.is_empty() {
        return Err(format!("DEMO_INPUT={name}: no line in Apache combined format").into());
    }
    println!("{name}: {} requests, {skipped} lines in no known format", events.len());
    Ok(events)
}

/// `address - user [17/May/2015:10:05:03 +0000] "GET /url HTTP/1.1" 200 ...`
fn parse(line: &str) -> Option<Event> {
    let (head, rest) = line.split_once(" [")?;
    let (time, rest) = rest.split_once("] \"")?;
    let (request, rest) = rest.split_once("\" ")?;
    let (date, clock) = time.split_once(':')?;
    Some(Event {
        address: head.split(' ').next()?.to_string(),
        // `17 May 2015 10:05:03 +0000` is a form that timestamptz reads.
        time: format!("{} {clock}", date.replace('/', " ")),
        url: request.split(' ').nth(1).unwrap_or(request).to_string(),
        status: rest.split(' ').next()?.parse().ok()?,
    })
}

/// A field of COPY's text format.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\r', "\\r")
}

/// Writes this writer's share in transactions of 100 rows. The log knows no country and no response time.
pub fn write<'a>(
    client: &mut Client,
    events: impl Iterator<Item = &'a Event>,
    written: &AtomicU64,
) -> Outcome<()> {
    let events: Vec<_> = events.collect();
    for batch in events.chunks(100) {
        let copy = "COPY http_request (site_id, ingest_time, url, ip_address, status_code) FROM STDIN";
        let mut sink = client.copy_in(copy)?;
        for event in batch {
            let (url, address) = (escaped(&event.url), escaped(&event.address));
            writeln!(sink, "1\t{}\t{url}\t{address}\t{}", event.time, event.status)?;
        }
        sink.finish()?;
        written.fetch_add(batch.len() as u64, Relaxed);
    }
    Ok(())
}
