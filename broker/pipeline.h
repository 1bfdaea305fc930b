/* pipeline.h - which aggregation pipelines may be given to a MongoDB server.
 *
 * Stages: $match $project $addFields $set $unset $group $sort $limit $skip $count $unwind $sample
 * $bucket $bucketAuto $facet $replaceRoot $replaceWith $sortByCount, and $lookup into collections
 * that may be read. Nothing that writes, runs code ($function, $accumulator, $where) or tells of
 * the server. Every other stage is refused by name; the server judges the rest. */
#pragma once

#include "protocol/bson.h"

#include "broker/why.h"

/* True when the collection of the pipeline's database may be read by the asker. */
typedef bool (*pipeline_may_read)(void *context, tw_str coll);

/* pipeline: a BSON array of stages, at most TW_PIPELINE_STAGES_MAX with those inside.
 * TW_E_BAD_QUERY, TW_E_FORBIDDEN, TW_E_TOO_MANY with why. Thread: any. */
tw_err pipeline_check(tw_bson pipeline, pipeline_may_read may_read, void *context, broker_why *why);
