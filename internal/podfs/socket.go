// SPDX-License-Identifier: Apache-2.0

package podfs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// DialUnix connects to a stream socket in the directory. It connects to the very
// socket whose type it has looked at, and does not wait when the socket's queue
// is full. Errors match fs.ErrNotExist, unix.ECONNREFUSED (nobody listens any
// more) and so on.
//
// The path that the kernel sees is /proc/self/fd/N, so volumes with long paths
// are no problem for sun_path.
func (d *Dir) DialUnix(ctx context.Context, name string) (*net.UnixConn, error) {
	ref, _, err := d.open(name, unix.S_IFSOCK)
	if err != nil {
		return nil, err
	}
	defer ref.Close()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", procFD(ref))
	if err != nil {
		var se *os.SyscallError
		if errors.As(err, &se) {
			err = se.Err
		}
		return nil, d.pathError("connect", name, err)
	}
	return conn.(*net.UnixConn), nil
}

// Cred is who listens at the other end of a socket.
type Cred struct{ PID, UID, GID int }

// PeerCred asks the kernel who made conn's other end listen.
func PeerCred(conn *net.UnixConn) (Cred, error) {
	rc, err := conn.SyscallConn()
	if err != nil {
		return Cred{}, fmt.Errorf("peer credentials: %w", err)
	}
	var u *unix.Ucred
	var uerr error
	if err := rc.Control(func(fd uintptr) { u, uerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return Cred{}, fmt.Errorf("peer credentials: %w", err)
	}
	if uerr != nil {
		return Cred{}, fmt.Errorf("peer credentials: %w", uerr)
	}
	if u.Pid <= 0 {
		return Cred{}, errors.New("peer credentials: the process is not visible here; the node agent must run in the host's PID namespace (hostPID: true)")
	}
	return Cred{PID: int(u.Pid), UID: int(u.Uid), GID: int(u.Gid)}, nil
}

// ErrForeign means that a socket in a pod's volume is served by a process that
// does not belong to the pod.
var ErrForeign = errors.New("refused: served by a process outside the pod")

// DialPod connects to a socket of a pod and makes sure that a process of that
// pod serves it. The caller closes both results.
func (d *Dir) DialPod(ctx context.Context, name, podUID string) (*net.UnixConn, *Process, error) {
	conn, err := d.DialUnix(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	p, err := peerInPod(conn, podUID)
	if err != nil {
		conn.Close()
		return nil, nil, d.pathError("connect", name, err)
	}
	return conn, p, nil
}

func peerInPod(conn *net.UnixConn, podUID string) (*Process, error) {
	cred, err := PeerCred(conn)
	if err != nil {
		return nil, err
	}
	p, err := OpenProcess(cred.PID)
	if err != nil {
		return nil, err
	}
	ok, err := p.InPod(podUID)
	if err == nil && !ok {
		err = fmt.Errorf("%w: PID %d is not in a cgroup of pod %s", ErrForeign, cred.PID, podUID)
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}
