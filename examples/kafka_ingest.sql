-- Takes messages of a Kafka topic into http_request, each once, however often it is given them. docs/kafka.md explains.
--   kcat -C -q -e -b BROKER -t http_request -p 0 -o OFFSET -f '%p\t%o\t%T\t%s\n' | psql -X -q -d DATABASE -f kafka_ingest.sql
\set ON_ERROR_STOP on
BEGIN;
CREATE TEMP TABLE message (partition int NOT NULL, at_offset bigint NOT NULL, sent bigint, value jsonb) ON COMMIT DROP;
-- JSON escapes control characters, so a tab ends a column, and nothing is quoted by a character that cannot occur.
\copy message FROM pstdin WITH (FORMAT csv, DELIMITER E'\t', QUOTE E'\x01')

-- Who reads the same partition at the same time waits here, and then finds its messages taken.
INSERT INTO kafka_offset (partition, next) SELECT DISTINCT partition, 0 FROM message ON CONFLICT DO NOTHING;
SELECT count(*) FROM (SELECT FROM kafka_offset WHERE partition IN (SELECT partition FROM message) ORDER BY partition FOR UPDATE) locked \g /dev/null

INSERT INTO http_request (site_id, ingest_time, url, request_country, ip_address, status_code, response_time_msec)
SELECT r.site_id, coalesce(r.ingest_time, to_timestamp(m.sent / 1000.0)), r.url, r.request_country, r.ip_address, r.status_code, r.response_time_msec
FROM (SELECT DISTINCT ON (partition, at_offset) * FROM message ORDER BY partition, at_offset) m
JOIN kafka_offset o ON o.partition = m.partition AND m.at_offset >= o.next
CROSS JOIN LATERAL jsonb_populate_record(NULL::http_request, m.value) r
WHERE m.value IS NOT NULL; -- a message without a value takes an offset, and nothing else

UPDATE kafka_offset o SET next = m.last + 1
FROM (SELECT partition, max(at_offset) AS last FROM message GROUP BY partition) m
WHERE o.partition = m.partition AND o.next <= m.last;
COMMIT;
