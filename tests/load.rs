//! Writers of every kind that loses rows elsewhere.
use postgres::Client;

/// A small generator of its own: the load need not be reproducible, only varied.
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// `rows` events, some of them hours late, as one statement.
pub fn insert(dice: &mut Dice, rows: u64) -> String {
    let late = if dice.roll(5) == 0 { dice.roll(20_000) } else { 0 };
    let (site, seed) = (dice.roll(6), dice.roll(1 << 30));
    format!(
        "INSERT INTO http_request SELECT nullif({site}, 5), now() - interval '{late} s' - g * interval '1 s',
           '10.0.' || ({seed} + g) % 200 || '.' || g % 50, (ARRAY['USA','DE','FR',NULL])[1 + ({seed} + g) % 4],
           200 + ({seed} + g) % 300, ({seed} + g) % 1000 FROM generate_series(1, {rows}) g"
    )
}

/// One transaction of a writer, of a kind the dice choose.
pub fn write(client: &mut Client, dice: &mut Dice) -> Result<(), postgres::Error> {
    let rows = 1 + dice.roll(20);
    let (one, two) = (insert(dice, rows), insert(dice, rows));
    match dice.roll(7) {
        0 => client.batch_execute(&format!("BEGIN; {one}; ROLLBACK")),
        1 => client.batch_execute(&format!(
            "BEGIN; {one}; SAVEPOINT a; {two}; ROLLBACK TO a; SAVEPOINT b; {two}; RELEASE b; COMMIT"
        )),
        2 => {
            use std::io::Write;
            let copy = "COPY http_request (site_id, ip_address, request_country, status_code, response_time_msec) FROM STDIN";
            let mut sink = client.copy_in(copy)?;
            for row in 0..rows {
                let line =
                    format!("{}\t10.1.{}.{row}\tUSA\t200\t{}\n", row % 5, dice.roll(99), dice.roll(500));
                sink.write_all(line.as_bytes()).expect("a line of COPY");
            }
            sink.finish().map(drop)
        }
        3 => client.batch_execute(&format!("BEGIN; {one}; SELECT pg_sleep(0.3); {two}; COMMIT")),
        4 => {
            let id = dice.roll(1 << 40);
            client.batch_execute(&format!("BEGIN; {one}; PREPARE TRANSACTION 'p{id}'"))?;
            client.batch_execute(&format!("COMMIT PREPARED 'p{id}'"))
        }
        // A run in the writer's own transaction, between two inserts of it.
        5 if dice.roll(10) == 0 => {
            client.batch_execute(&format!("BEGIN; {one}; SELECT rollup_http_request(); {two}; COMMIT"))
        }
        _ => client.batch_execute(&one),
    }
}
