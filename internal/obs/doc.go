// Package obs is how a process is watched: its log, its metrics, its health, and dumps of what it sees and plans.
package obs
