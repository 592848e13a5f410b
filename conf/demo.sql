-- Which instruments tick most?
SELECT instrument, count(*) AS ticks, max(ts) AS last_tick
FROM quotes
GROUP BY ALL
ORDER BY ticks DESC
LIMIT 5;

-- How does the smile of the busiest BTC expiry look, and do our Greeks (own_…, computed on read) match the venue's?
WITH latest AS (
    SELECT arg_max(columns(* EXCLUDE (venue, ts, recv_ts, date, family, instrument)), ts), instrument
    FROM quotes_greeks
    WHERE family = 'btc_option'
    GROUP BY instrument
),
smile AS (
    SELECT *, split_part(instrument, '-', 2) AS expiry
    FROM latest
    WHERE instrument LIKE '%-C' AND delta BETWEEN 0.03 AND 0.97
)
SELECT strike::INT AS strike, mark_price, mark_iv, round(own_iv, 2) AS own_iv, delta, round(own_delta, 5) AS own_delta,
       theta, round(own_theta, 5) AS own_theta,
       bar(mark_iv - min(mark_iv) OVER (), -1, 1 + max(mark_iv) OVER () - min(mark_iv) OVER (), 16) AS smile
FROM smile
WHERE expiry = (SELECT expiry FROM smile GROUP BY expiry ORDER BY count(*) DESC LIMIT 1)
ORDER BY strike;

-- Is every trade there? trade_seq counts without holes, so `missing` must be 0.
SELECT family, count(*) AS trades, count(DISTINCT instrument) AS instruments, sum(step - 1)::INT AS missing
FROM (
    SELECT family, instrument,
           trade_seq - lag(trade_seq, 1, trade_seq - 1) OVER (PARTITION BY instrument ORDER BY trade_seq) AS step
    FROM trades
)
GROUP BY ALL
ORDER BY trades DESC;
