# Runs a command with a root of its own: read-only copies of the given paths, and empty /tmp and /dev/shm.
#
# Usage: enclose.sh ROOT OWNER UID PATH... -- COMMAND...
# ROOT is an empty folder. OWNER says who runs it, in new namespaces: `root`, or `user` for the root of a user
# namespace. COMMAND runs as UID, without groups, capabilities and a way to new ones. Any step that fails ends
# the script before COMMAND.
set -eu
root=$1 owner=$2 uid=$3
shift 3

# The kernel ends these processes first if memory runs out.
echo 1000 > /proc/self/oom_score_adj

mount -t tmpfs -o size=1m,mode=755,nosuid,nodev box "$root"
while [ "$1" != -- ]; do
    target="$root$1"
    if [ -L "$1" ]; then
        mkdir -p "${target%/*}"
        cp -P "$1" "$target"
    elif [ -d "$1" ]; then
        mkdir -p "$target"
        mount --rbind "$1" "$target"
    else
        mkdir -p "${target%/*}"
        : > "$target"
        mount --bind "$1" "$target"
    fi
    shift
done
shift
mkdir -p "$root/tmp" "$root/dev/shm"

# Read-only: every mount below the root, also those that came along with a path.
while read -r _ _ _ _ target _; do
    target=$(printf '%b' "$target")
    case $target in
        "$root" | "$root"/*) mount -o remount,bind,ro,nosuid "$target" ;;
    esac
done < /proc/self/mountinfo

mount -t tmpfs -o size=64m,mode=1777,nosuid,nodev box "$root/tmp"
mount -t tmpfs -o size=64m,mode=1777,nosuid,nodev box "$root/dev/shm"

# The command runs below this shell, which stays the first process of the namespace: when it ends, all end. In a
# root other than that of its mount namespace, a process can't make a user namespace and get capabilities there.
if [ "$owner" = root ]; then
    chroot "$root" setpriv --reuid "$uid" --regid "$uid" --clear-groups \
        --bounding-set -all --inh-caps -all --no-new-privs "$@"
else
    unshare --user --map-user "$uid" --map-group "$uid" --root "$root" \
        setpriv --inh-caps -all --no-new-privs "$@"
fi
