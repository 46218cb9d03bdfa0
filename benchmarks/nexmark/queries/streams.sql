-- The three streams of the auction house.
CREATE STREAM person (WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds')
    WITH (connector = 'nexmark', table = 'person', events = {events}, inter_event_delay = '{delay}',
        retention = '{retention}');

CREATE STREAM auction (WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds')
    WITH (connector = 'nexmark', table = 'auction', events = {events}, inter_event_delay = '{delay}',
        retention = '{retention}');

CREATE STREAM bid (WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds')
    WITH (connector = 'nexmark', table = 'bid', events = {events}, inter_event_delay = '{delay}',
        retention = '{retention}');
