#pragma once

#include "base/path_list.h"
#include "data/data_manifest.h"
#include "hub/cache.h"
#include "hub/hub_client.h"

namespace echo {

// Asks the hub, once, what the remote entries (is_remote) of a run's data are: the commit of each revision, and the files
// there. Of a folder with train/ in it, only that part is listed, and validation/ if `validation` is empty. Folders are listed
// two at a time. Offline, the hub's cache answers. Throws Error: input_missing, unavailable, no_permission, config (not the
// address of a data set).
DataManifest list_remote_data(HubClient& client, HubCache& cache, const PathList& data, const PathList& validation);

// A line for each repository whose revision has moved away from the manifest's commit. Says nothing when the hub cannot be
// reached, and nothing offline.
std::vector<std::string> moved_revisions(const HubSettings& settings, const DataManifest& manifest);

}  // namespace echo
