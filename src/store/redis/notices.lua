-- Telling those who wait for a task or watch it.

local any_watched

-- Tells those who watch `id`. Where nobody watches anything this is one look for all tasks of a script.
local function changed(id)
  if any_watched == nil then any_watched = redis.call('EXISTS', WATCHED) == 1 end
  if any_watched and try('ZSCORE', WATCHED, id) then redis.call('PUBLISH', changed_of(id), '') end
end

-- Tells whoever waits for `id`: by Celery's result, kept for `keep` (s), or where there is none ('') by our own notice.
local function tell(id, meta, keep)
  if meta ~= '' then
    local name = meta_of(id)
    -- What is no text there is nobody's result.
    local before = try('SET', name, meta, 'EX', keep, 'GET')
    if before == nil then redis.call('SET', name, meta, 'EX', keep) end
    if before and before:find('^{"status": ?"SUCCESS"') then
      -- As with Celery, a task that has succeeded has, whatever a later delivery of it comes to.
      redis.call('SET', name, before, 'EX', keep)
      meta = before
    end
    redis.call('PUBLISH', name, meta)
  else
    redis.call('PUBLISH', changed_of(id), '')
  end
end
