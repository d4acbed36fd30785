-- Orthanc sends each new CT series to a device that runs `edge-ct listen`, and notes what the device answers.
--
-- In orthanc.json, with the device's address:
--   "LuaScripts": ["/etc/orthanc/edge-ct.lua"],
--   "StableAge": 60,
--   "UserMetadata": {"edge-ct": 4801},
--   "DicomModalities": {"edgect": {"AET": "EDGECT", "Host": "192.168.7.5", "Port": 11112}}
--
-- The answer comes back into the study as a structured report. Its decision is then in the log of Orthanc, and in the
-- metadata of the study: curl http://localhost:8042/studies/ID/metadata/edge-ct
-- Research use only. Not a medical device.

DEVICE = "edgect"

local function decision_of(items)
  -- The text under the concept "decision", anywhere in the tree of a structured report.
  for _, item in ipairs(items or {}) do
    local concept = (item["ConceptNameCodeSequence"] or {})[1] or {}
    if concept["CodeValue"] == "decision" and item["TextValue"] then
      return item["TextValue"]
    end
    local found = decision_of(item["ContentSequence"])
    if found then
      return found
    end
  end
end

function OnStableSeries(seriesId, tags, metadata)
  local series = ParseJson(RestApiGet("/series/" .. seriesId))
  local main = series["MainDicomTags"]
  if main["Modality"] == "CT" then
    -- Not SendToModality: it takes instances only, and opens an association for each.
    local job = DumpJson({ ["Resources"] = { seriesId }, ["Synchronous"] = false })
    RestApiPost("/modalities/" .. DEVICE .. "/store", job)
  elseif main["Modality"] == "SR" and main["Manufacturer"] == "edge-ct" then
    local report = ParseJson(RestApiGet("/instances/" .. series["Instances"][1] .. "/simplified-tags"))
    local decision = decision_of(report["ContentSequence"])
    if decision then
      print("edge-ct: study " .. series["ParentStudy"] .. ": " .. decision)
      RestApiPut("/studies/" .. series["ParentStudy"] .. "/metadata/edge-ct", decision)
    end
  end
end
