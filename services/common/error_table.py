"""The one table of what can go wrong: for every reason its gRPC code, its exit code, its text and its remedy.

Programs look at the reason; people read the text. A text is a sentence about the fields of the error: `{path|the file}`
is the field or else the words behind the bar, and a part in square brackets is left out when one of its fields was not
given, so an error raised far from the user's words still reads well.
Nothing here imports gRPC: decode children load this module and must start in milliseconds.
"""

from __future__ import annotations

from services.common.error_table_callers import CALLERS
from services.common.explanations import Code as Code
from services.common.explanations import Exit as Exit
from services.common.explanations import Explanation as Explanation
from services.common.explanations import absent, fault, refused

TABLE: dict[str, Explanation] = {
    # The video.
    "NOT_A_VIDEO": refused(
        "{path|the file} is not a video that can be read[; it looks like {found}]",
        "give a file in mov/mp4, matroska/webm, mpeg, mpegts, gif, avi or flv",
    ),
    "CORRUPT_MEDIA": refused(
        "{path|the video} is damaged[ at {at}][: {detail}]",
        "play it to the end elsewhere; if it stops there too, fetch or export it again",
    ),
    "TRUNCATED_MEDIA": refused(
        "{path|the video} ends before its own table of contents says so[: {detail}]",
        "copy or download the file again; it is not complete",
    ),
    "NO_VIDEO_STREAM": refused(
        "{path|the video} holds no video stream[, only {found}]",
        "give a file with a picture; sound alone cannot be changed here",
    ),
    "NO_VIDEO_FRAMES": refused(
        "{path|the video} holds a video stream without one frame that can be decoded[ ({codec})]",
        "export the video again; its stream is empty or cannot be decoded",
    ),
    "FORMAT_REFUSED": refused(
        "{path|the video} is in a format that is refused[: {format}]",
        "playlists and concat scripts may name other files and are never followed: give the media file itself",
    ),
    "MEDIA_LIMIT_EXCEEDED": refused(
        "{path|the video} is beyond a limit[: {limit}][ {value}][, at most {most}]",
        "cut or scale the video, or raise the limit in the ingest settings",
    ),
    "MEDIA_TOO_SMALL": refused(
        "{path|the video} is too small[: {width}x{height}][, at least {least} px]",
        "use a larger version of the video",
    ),
    "ENCRYPTED_MEDIA": refused(
        "{path|the video} is encrypted",
        "give a file without copy protection",
    ),
    "HDR_UNSUPPORTED": refused(
        "{path|the video} is an HDR video[ ({transfer})], which is not supported",
        "convert it to SDR (BT.709) first",
    ),
    "DISPLAY_MATRIX_UNSUPPORTED": refused(
        "{path|the video} is to be shown at an angle[ of {degrees} degrees] that is no quarter turn",
        "export the video upright, or turned by 90, 180 or 270 degrees",
    ),
    "RANGE_OUTSIDE_VIDEO": refused(
        "the range[ {range}] lies outside the video[, which lasts {duration}]",
        "ranges are half-open, in seconds or [hh:]mm:ss.mmm after the first frame",
        Code.OUT_OF_RANGE,
    ),
    # The portrait and other pictures.
    "NOT_AN_IMAGE": refused(
        "{path|the file} is not a picture that can be read[; it looks like {found}]",
        "give a JPEG, PNG or WebP file",
    ),
    "IMAGE_LIMIT_EXCEEDED": refused(
        "{path|the picture} is beyond a limit for pictures[: {limit}][ {value}][, at most {most}]",
        "scale the picture down",
    ),
    "NO_FACE_IN_PORTRAIT": refused(
        "no face was found in {portrait|the portrait}[ (looked at {looked_at})]",
        "use a picture in which one face is at least 200 px wide and looks at the camera",
    ),
    "SEVERAL_FACES_IN_PORTRAIT": refused(
        "{faces|several} faces were found in {portrait|the portrait}, one is needed",
        "cut the picture so that one face is in it",
    ),
    "FACE_TOO_SMALL": refused(
        "the face in {portrait|the portrait} is too small[: {width_px} px wide][, at least {least_px} px]",
        "use a picture in which the face is larger",
    ),
    "FACE_TURNED": refused(
        "the face in {portrait|the portrait} is turned away[ by {degrees} degrees]",
        "use a picture in which the face looks at the camera",
    ),
    "FACE_COVERED": refused(
        "the face in {portrait|the portrait} is partly covered[: {by}]",
        "use a picture without hands, hair, masks or dark glasses in front of the face",
    ),
    # What was asked for.
    "INVALID_SPEC": refused(
        "the request is not valid[: {field}][: {problem}]",
        "mend the field that is named and send the request again",
    ),
    "UNKNOWN_ENGINE": refused(
        "no swap engine is called {engine|that}[; there are {known}]",
        "name one of these, or none for the default",
    ),
    "UNKNOWN_PROFILE": refused(
        "no profile is called {profile|that}[; there are {known}]",
        "name one of these, or none for the default",
    ),
    "UNKNOWN_MODEL": refused(
        "no model is called {model|that}[; there are {known}]",
        "name a folder of the model repository",
        Code.NOT_FOUND,
    ),
    "LICENCE_FORBIDDEN": refused(
        "{model|a model} may not be used under the licence policy[ {policy}][: its licence is {licence}]",
        "choose another model or engine, or set the policy to research if your use is research",
        Code.FAILED_PRECONDITION,
    ),
    "CONSENT_REQUIRED": refused(
        "nobody said that the person[ in {portrait}] agrees",
        "ask the person, then run with --consent",
        Code.FAILED_PRECONDITION,
    ),
    "NO_IDENTITY": refused(
        "a face is to be swapped, but no identity was given[ for {person}]",
        "give a portrait with --face, or an identity's id",
    ),
    "UNKNOWN_SETTING": refused(
        "{setting|a name} is not a setting[; did you mean {nearest}?]",
        "`masquerade config` prints every setting with its origin",
    ),
    "INVALID_SETTING": refused(
        "{setting|a setting} cannot be {value|that}[: {problem}]",
        "`masquerade config` prints every setting with its meaning",
    ),
    "JOB_NOT_FOUND": refused(
        "there is no such job[: {job}]",
        "submit it first; a job is known in the data folder in which it was submitted",
        Code.NOT_FOUND,
    ),
    "IDENTITY_NOT_FOUND": refused(
        "there is no such identity[: {identity}]",
        "create one from a portrait first",
        Code.NOT_FOUND,
    ),
    # Where results go.
    "OUTPUT_UNWRITABLE": refused(
        "{path|the output} cannot be written[: {detail}]",
        "choose a folder in which you may write",
        Code.FAILED_PRECONDITION,
    ),
    "OUTPUT_EXISTS": refused(
        "{path|the output} exists already",
        "choose another name, or say --force",
        Code.ALREADY_EXISTS,
    ),
    "INPUT_MISSING": refused(
        "{path|the input} does not exist or cannot be read[: {detail}]",
        "check the name and that you may read it",
        Code.NOT_FOUND,
    ),
    "LINK_REFUSED": refused(
        "{link|the link} is not followed[: {problem}]",
        "give an http or https link to a public video, or fetch the file yourself and give that",
    ),
    "LINK_UNREACHABLE": refused(
        "what {link|the link} leads to cannot be fetched[: {detail}]",
        "open it in a browser; if it plays there, try again later or fetch the file yourself",
        Code.FAILED_PRECONDITION,
    ),
    "NO_SPACE": refused(
        "no space is left[ in {path}][: {needed_bytes} bytes are needed][, {free_bytes} are free]",
        "free some space, or set the data folder to another disk",
        Code.RESOURCE_EXHAUSTED,
    ),
    "DATA_FOLDER_BUSY": refused(
        "another process[ ({pid})] owns the data folder[ {path}]",
        "wait for it, or use its commands; to run two at once give each its own --data",
        Code.FAILED_PRECONDITION,
    ),
    # What we depend on.
    "MODEL_MISSING": absent(
        "the weights of {model|a model} are not there[ ({path})]",
        "run `masquerade models pull`",
    ),
    # What was named is not what it was promised to be, or not there: the command refuses and writes nothing.
    "MODEL_DIGEST_MISMATCH": refused(
        "the weights of {model|a model} are not the ones that were promised[: sha256 {found}][ instead of {expected}]",
        "run `masquerade models pull` again; if it stays so, the publisher's file has changed",
        Code.FAILED_PRECONDITION,
    ),
    "MODEL_CONTRACT_MISMATCH": absent(
        "the model [{model} ]does not fit its contract[: {problem}]",
        "run `masquerade models pull`, or mend the model's config.pbtxt",
    ),
    "RUNTIME_UNAVAILABLE": refused(
        "the inference runtime [{runtime} ]does not answer[ at {target}][: {detail}]",
        "start it, or leave the setting out to use the runtime inside the process",
        Code.UNAVAILABLE,
    ),
    "REGISTRY_UNREACHABLE": absent(
        "the publisher of {model|a model} cannot be reached[ ({host})][: {detail}]",
        "check the network, or set a mirror; what was pulled before stays usable",
        Code.UNAVAILABLE,
    ),
    "DEPENDENCY_MISSING": absent(
        "{dependency|a library or program} is not installed[; it is needed for {purpose}]",
        "install it as the README says, then run `masquerade doctor`",
    ),
    # Stored objects.
    "OBJECT_MISSING": refused(
        "the object [{key} ]does not exist",
        "it was deleted or never written: start the job again",
        Code.NOT_FOUND,
    ),
    "OBJECT_CORRUPT": fault(
        "the object [{key} ]is not what was stored[: sha256 {found}][ instead of {expected}]",
        "check the disk; a retry of the job makes the object again",
        Code.DATA_LOSS,
    ),
    # Between the services.
    "LANE_REFUSED": fault(
        "shared memory could not be agreed on[: {detail}]",
        "both ends must see the same memory; without it frames travel inline",
        Code.FAILED_PRECONDITION,
    ),
    "RING_FULL": fault(
        "the frame ring is full[: {asked_bytes} bytes asked][, {total_bytes} in all]",
        "ask for fewer frames at once, or raise the ring's size",
        Code.RESOURCE_EXHAUSTED,
    ),
    "LEASE_EXPIRED": fault(
        "a frame's memory was given back before it was read[ (slot {slot})][ (generation {generation})]",
        "the caller was too slow or died; the segment is done again",
        Code.ABORTED,
    ),
    "FRAME_BATCH_INVALID": refused(
        "a batch of frames contradicts itself[: {problem}]",
        "sizes, formats and payload must agree: see frames.proto",
    ),
    "ANSWER_MISMATCH": fault(
        "an answer does not fit the question[: asked {asked}][, answered {answered}][ by {peer}]",
        "the peers are of different versions or one has a fault: look at its log",
    ),
    "DECODER_DIED": fault(
        "the process that worked on this file died[ ({path})][: {how}]",
        "the file may be hostile or damaged; the service itself is well",
    ),
    "DECODE_TIMEOUT": fault(
        "reading the file took longer than allowed[ ({path})][: {limit_s} s]",
        "the file may be hostile; if it is not, raise the limit in the ingest settings",
        Code.DEADLINE_EXCEEDED,
    ),
    "ENCODER_FAILED": fault(
        "the encoder failed[ ({encoder})][: {detail}]",
        "look at the log; another encoder can be chosen in the settings",
    ),
    "VERIFY_FAILED": fault(
        "the finished file did not pass its own check[: {check}][: {detail}]",
        "nothing was published; keep the report and send it to us",
        Code.DATA_LOSS,
    ),
    "CANCELLED": Explanation(
        Code.CANCELLED, Exit.INTERRUPTED, "it was cancelled[: {what}]", "run the same command again to go on"
    ),
    "DEADLINE_EXCEEDED": fault(
        "the time[ for {what}] is over[: {limit_s} s]",
        "try again; if the machine is slow, raise the deadline",
        Code.DEADLINE_EXCEEDED,
    ),
    "OVERLOADED": fault(
        "{what|the service} has more work than it takes[: {waiting} waiting][, at most {most}]",
        "try again a little later",
        Code.RESOURCE_EXHAUSTED,
    ),
    "UNAVAILABLE": fault(
        "{peer|a service} cannot be reached[: {detail}]",
        "it may be starting or stopping: try again; `masquerade doctor` says who is up",
        Code.UNAVAILABLE,
    ),
    "INTERNAL": fault(
        "a fault of ours[: {detail}]",
        "look at the log, which holds the details, and send it to us",
    ),
    **CALLERS,
}
"""Reason without its REASON_ prefix, to what it means."""
