-- The schema of the README's tour as one file: events, what is kept of them by the minute, views for a dashboard.
-- grafana.json, beside this file, is a dashboard over it.
--   psql -d DATABASE -v ON_ERROR_STOP=1 -f http_request.sql

CREATE EXTENSION IF NOT EXISTS hll;

-- Events as applications write them, kept for a week.
CREATE TABLE http_request (
  site_id            int         NOT NULL,
  ingest_time        timestamptz NOT NULL DEFAULT now(),
  url                text,
  request_country    text,
  ip_address         text,
  status_code        int,
  response_time_msec int
);
CREATE INDEX ON http_request (site_id, ingest_time);

SELECT rollup.create('http_request_1min', $$
  SELECT site_id,
         date_trunc('minute', ingest_time)                           AS ingest_time,
         count(*)                                                    AS request_count,
         count(*) FILTER (WHERE status_code BETWEEN 200 AND 299)     AS success_count,
         count(*) FILTER (WHERE status_code NOT BETWEEN 200 AND 299) AS error_count,
         sum(response_time_msec)                                     AS total_response_time_msec,
         sum(response_time_msec) / count(*)                          AS average_response_time_msec,
         ddsketch_agg(response_time_msec)                            AS response_time,
         hll_add_agg(hll_hash_text(ip_address))                      AS distinct_ip_addresses,
         jsonb_counter_agg(request_country)                          AS country_counters,
         jsonb_counter_agg(url, 1, 100)                              AS url_counters
  FROM http_request
  GROUP BY 1, 2 $$, every => '10 seconds', coarser => '{"http_request_1hour": "1 hour"}');
SELECT rollup.retain('http_request', '7 days');

-- The last hour of each site. It reads the live view, which has the rows of this very moment, too.
CREATE VIEW http_request_last_hour AS
SELECT site_id,
       sum(request_count)                                              AS requests,
       sum(error_count)                                                AS errors,
       sum(total_response_time_msec) / nullif(sum(request_count), 0)   AS average_response_time_msec,
       ddsketch_percentile(ddsketch_union_agg(response_time), 0.99)    AS p99_response_time_msec,
       round(hll_cardinality(hll_union_agg(distinct_ip_addresses)))    AS distinct_ip_addresses,
       jsonb_counter_merge_agg(country_counters)                       AS countries
FROM http_request_1min_live
WHERE ingest_time > now() - interval '1 hour'
GROUP BY site_id;
COMMENT ON VIEW http_request_last_hour IS 'Requests of the last hour by site';

-- Visitors of a day: sketches of minutes unite to the sketch of the day, counting nobody twice.
CREATE VIEW http_request_daily AS
SELECT site_id,
       date_trunc('day', ingest_time)                                  AS day,
       sum(request_count)                                              AS requests,
       round(hll_cardinality(hll_union_agg(distinct_ip_addresses)))    AS distinct_ip_addresses
FROM http_request_1min
GROUP BY 1, 2;
COMMENT ON VIEW http_request_daily IS 'Requests and visitors by site and day';

-- The busiest URLs of a day, each with the least and the most requests that it can have had.
CREATE VIEW http_request_busiest AS
SELECT d.site_id, d.day, t.key AS url, t.n AS requests, t.at_most
FROM (SELECT site_id, date_trunc('day', ingest_time) AS day, jsonb_counter_merge_agg(url_counters) AS urls
      FROM http_request_1hour GROUP BY 1, 2) d, jsonb_counter_top(d.urls, 20) t;
COMMENT ON VIEW http_request_busiest IS 'The 20 busiest URLs by site and day, with their error bound';
